//! The store against a model, and against damage.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;

use prost::Message as _;

use super::{Backend as _, Change, Space, StoreError, commands, disk::Disk, record::StoredSession};

/// What is in a store.
type Records = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// Where synchronising costs no time.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn read(disk: &mut Disk) -> Result<Records, StoreError> {
    let mut records = Records::new();
    disk.load(&mut |space, key, value| {
        records.insert((space, key.to_vec()), value.to_vec());
        Ok(())
    })?;
    Ok(records)
}

/// Of a router or a session, its key, and its value if it is put.
type Wanted = (bool, u8, Option<u8>);

/// Applies changes to the model, and makes them ones for the store.
#[derive(Clone, Default)]
struct Model(Records);

impl Model {
    fn batch(&mut self, wanted: &[Wanted]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (router, key, value) in wanted {
            let (space, key) = if *router {
                (Space::Routers, format!("router-{key}").into_bytes())
            } else {
                (Space::Sessions, u64::from(*key).to_be_bytes().to_vec())
            };
            let at = (space, key.clone());
            let former = self.0.get(&at);
            let former = former.map(|value| super::head::digest(space, &key, value));
            match value {
                Some(length) => {
                    let value = vec![*length; usize::from(*length) * 8];
                    self.0.insert(at, value.clone());
                    changes.push(Change::put(space, &key, value, former));
                }
                None => {
                    let Some(former) = former else {
                        continue;
                    };
                    self.0.remove(&at);
                    changes.push(Change::remove(space, &key, former));
                }
            }
        }
        changes
    }
}

fn batches() -> impl Strategy<Value = Vec<(bool, Vec<Wanted>)>> {
    let change = (any::<bool>(), 0..40_u8, proptest::option::of(any::<u8>()));
    let batch = proptest::collection::vec(change, 0..30);
    // Now and then it is opened anew.
    proptest::collection::vec((proptest::bool::weighted(0.2), batch), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(10), ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_was_committed(batches in batches()) {
        let folder = folder();
        let mut model = Model::default();
        let mut disk = Disk::serve(folder.path()).unwrap();
        let epoch = disk.epoch();
        let (mut terms, mut commits) = (1, 0);
        for (reopens, batch) in batches {
            if reopens {
                drop(disk);
                disk = Disk::serve(folder.path()).unwrap();
                terms += 1;
                prop_assert_eq!(disk.is_new(), commits == 0);
            }
            disk.commit(&model.batch(&batch)).unwrap();
            commits += 1;
            prop_assert_eq!(&read(&mut disk).unwrap(), &model.0);
            prop_assert_eq!(disk.totals().count, model.0.len() as u64);
        }
        drop(disk);
        let mut disk = Disk::serve(folder.path()).unwrap();
        prop_assert_eq!(read(&mut disk).unwrap(), model.0);
        prop_assert_eq!((disk.epoch(), disk.term()), (epoch, terms + 1));
    }
}

/// A store as a killed process leaves it.
struct Killed {
    /// Its directory, which no test changes.
    from: TempDir,
    /// What was in it after each commit.
    history: Vec<Records>,
    /// `head` before the last commit.
    head: Vec<u8>,
    journal: PathBuf,
    /// Where the last batch begins.
    last: u64,
    /// Where the last batch, and the journal, ends.
    end: u64,
}

impl Killed {
    /// With a journal of about `bytes`.
    fn new(bytes: u64) -> Self {
        let folder = folder();
        let mut disk = Disk::serve(folder.path()).unwrap();
        let journal = fs::read_dir(folder.path().join("db")).unwrap();
        let journal = journal.map(|it| it.unwrap().file_name());
        let mut journal = journal.filter(|it| it.to_str().unwrap().ends_with(".jnl"));
        let journal = Path::new("db").join(journal.next().unwrap());
        let length = || fs::metadata(folder.path().join(&journal)).unwrap().len();
        let (mut model, mut history) = (Model::default(), Vec::new());
        let (mut last, mut head, mut round) = (0, Vec::new(), 0_u8);
        while length() < bytes {
            last = length();
            head = fs::read(folder.path().join("head")).unwrap();
            let change = |offset: u8| {
                let key = round.wrapping_add(offset) % 50;
                let value = (!round.is_multiple_of(7)).then_some(key | 1);
                (offset == 9, key, value)
            };
            let batch: Vec<_> = (0..10).map(change).collect();
            disk.commit(&model.batch(&batch)).unwrap();
            history.push(model.0.clone());
            round = round.wrapping_add(1);
        }
        let end = length();
        let from = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
        // While it is open: nothing of what a closing one does has happened.
        copy(folder.path(), from.path());
        Self {
            from,
            history,
            head,
            journal,
            last,
            end,
        }
    }

    /// What is there after some damage; with the head of before the last commit, which is how a kill
    /// between the two leaves it.
    fn after(&self, head: Option<&[u8]>, damage: impl Fn(&Path)) -> Result<Records, StoreError> {
        let folder = folder();
        copy(self.from.path(), folder.path());
        if let Some(head) = head {
            fs::write(folder.path().join("head"), head).unwrap();
        }
        damage(folder.path());
        let mut disk = Disk::serve(folder.path())?;
        let records = read(&mut disk);
        if records.is_err() {
            // It stays loud, unless the journal has made good what was missing.
            drop(disk);
            let again = Disk::serve(folder.path()).and_then(|mut disk| read(&mut disk));
            assert!(again.is_err() || again.is_ok_and(|records| records == *self.all()));
        }
        records
    }

    fn all(&self) -> &Records {
        self.history.last().unwrap()
    }

    fn but_the_last(&self) -> &Records {
        &self.history[self.history.len() - 2]
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The last 64 KiB of the journal, or less of it; all of them with VOICELANE_DEEP=1, else some.
/// And where the last batch says its length and number (fjall: a tag, four and eight bytes), which its checksum leaves
/// out.
fn positions(&Killed { last, end, .. }: &Killed) -> impl Iterator<Item = u64> + use<> {
    let first = end.saturating_sub(64 * 1024);
    let deep = std::env::var_os("VOICELANE_DEEP").is_some();
    let step = if deep { 1 } else { 641 };
    // The last batch is where most ends are.
    let fine = if deep { 1 } else { 37 };
    let near = end.saturating_sub(2_000).max(first);
    let some = (first..near).step_by(step).chain((near..end).step_by(fine));
    some.chain(last..last + 13)
}

#[test]
fn a_journal_that_is_cut_loses_no_session_quietly() {
    let killed = Killed::new(70_000);
    for at in positions(&killed) {
        let cut = |folder: &Path| {
            let file = OpenOptions::new()
                .write(true)
                .open(folder.join(&killed.journal));
            let file = file.unwrap();
            file.set_len(at).unwrap();
        };
        if let Ok(records) = killed.after(None, cut) {
            assert_eq!(&records, killed.all(), "cut at {at} of {}", killed.end);
        }
        // Its last batch was not acknowledged.
        match killed.after(Some(&killed.head), cut) {
            Ok(records) if at >= killed.last => {
                assert_eq!(&records, killed.but_the_last(), "cut at {at}");
            }
            Ok(_) => panic!("cut at {at}, and the last batch begins at {}", killed.last),
            Err(error) => assert!(at < killed.last, "cut at {at}: {error}"),
        }
    }
}

#[test]
fn a_journal_with_a_flipped_byte_loses_no_session_quietly() {
    let killed = Killed::new(70_000);
    let (mut loud, mut tried) = (0, 0);
    for at in positions(&killed) {
        for flip in [0x01, 0x80, 0xff] {
            let flip = |folder: &Path| {
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true);
                let file = options.open(folder.join(&killed.journal)).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ flip], at).unwrap();
            };
            tried += 1;
            match killed.after(None, flip) {
                Ok(records) => assert_eq!(&records, killed.all(), "flipped at {at}"),
                Err(StoreError::Damaged { .. }) => loud += 1,
                Err(other) => panic!("flipped at {at}: {other}"),
            }
            // Its last batch was not acknowledged.
            if let Ok(records) = killed.after(Some(&killed.head), flip) {
                assert!(
                    records == *killed.all() || records == *killed.but_the_last(),
                    "flipped at {at}"
                );
            }
        }
    }
    assert!(loud * 10 > tried * 9, "{loud} of {tried}");
}

#[test]
fn a_broken_head_is_loud_unless_its_other_slot_is_whole() {
    let killed = Killed::new(3_000);
    let alter = |slots: &'static [u64]| {
        move |folder: &Path| {
            let file = OpenOptions::new().write(true).open(folder.join("head"));
            for slot in slots {
                file.as_ref()
                    .unwrap()
                    .write_all_at(&[0xff], slot * 4_096 + 20)
                    .unwrap();
            }
        }
    };
    assert!(killed.after(None, alter(&[0])).is_ok());
    assert!(killed.after(None, alter(&[1])).is_ok());
    let error = killed.after(None, alter(&[0, 1])).unwrap_err().to_string();
    assert!(
        error.contains("head") && error.contains("voicelane-server check"),
        "{error}"
    );
    let gone = killed.after(None, |folder| fs::remove_file(folder.join("head")).unwrap());
    let error = gone.unwrap_err().to_string();
    assert!(error.contains("head"), "{error}");
}

#[test]
fn a_journal_that_has_run_out_of_numbers_can_be_exported() {
    let killed = Killed::new(3_000);
    let folder = folder();
    copy(killed.from.path(), folder.path());
    let journal = OpenOptions::new()
        .write(true)
        .open(folder.path().join(&killed.journal));
    journal
        .unwrap()
        .write_all_at(&[0x80], killed.last + 12)
        .unwrap();
    let error = Disk::serve(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("its journal counts 9223372036854775"),
        "{error}"
    );
    let (mut disk, problems) = Disk::inspect(folder.path()).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(read(&mut disk).unwrap(), *killed.all());
}

#[test]
fn a_store_without_its_database_is_no_empty_one() {
    let killed = Killed::new(3_000);
    for part in ["db/version", "db/keyspaces/1", "db/keyspaces/2"] {
        let remove = |folder: &Path| {
            let path = folder.join(part);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        };
        let error = killed.after(None, remove).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{part}: {error}"
        );
    }
    let emptied = killed.after(None, |folder| {
        fs::remove_dir_all(folder.join("db")).unwrap();
    });
    assert!(emptied.is_err(), "what is left says that there was one");
    let folder = folder();
    copy(killed.from.path(), folder.path());
    fs::remove_dir_all(folder.path().join("db")).unwrap();
    let looked_at = Disk::inspect(folder.path()).unwrap_err().to_string();
    assert!(looked_at.contains("db is missing"), "{looked_at}");
}

#[test]
fn tables_with_a_flipped_byte_are_loud() {
    let folder = folder();
    let mut disk = Disk::serve(folder.path()).unwrap();
    let mut model = Model::default();
    for key in 0..40 {
        disk.commit(&model.batch(&[(false, key, Some(200))]))
            .unwrap();
    }
    disk.write_tables();
    drop(disk);
    let tables = folder.path().join("db/keyspaces/1/tables");
    let tables: Vec<_> = fs::read_dir(tables)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    let table = tables.first().expect("a table");
    let whole = fs::read(table).unwrap();
    let mut loud = 0;
    for at in (0..whole.len()).step_by(whole.len().div_ceil(60)) {
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        fs::write(table, broken).unwrap();
        match Disk::serve(folder.path()).and_then(|mut disk| read(&mut disk)) {
            Ok(records) => assert_eq!(records, model.0, "flipped at {at}"),
            Err(_) => loud += 1,
        }
    }
    assert!(loud > 0);
    fs::write(table, whole).unwrap();
    let mut disk = Disk::serve(folder.path()).unwrap();
    assert_eq!(read(&mut disk).unwrap(), model.0);
}

#[test]
fn an_export_of_a_store_with_a_broken_table_has_the_other_one() {
    let folder = folder();
    let mut disk = Disk::serve(folder.path()).unwrap();
    let routers = (0..40_u8).map(|id| {
        let value = vec![0; 4_096];
        Change::put(Space::Routers, &[id], value, None)
    });
    let sessions = (0..40_u64).map(|id| {
        let value = StoredSession::default().encode_to_vec();
        Change::put(Space::Sessions, &id.to_be_bytes(), value, None)
    });
    let batch: Vec<Change> = routers.chain(sessions).collect();
    disk.commit(&batch).unwrap();
    disk.write_tables();
    drop(disk);
    let tables = fs::read_dir(folder.path().join("db/keyspaces/2/tables")).unwrap();
    for table in tables {
        let options = OpenOptions::new().write(true).open(table.unwrap().path());
        options.unwrap().write_all_at(&[0xff; 64], 100).unwrap();
    }
    let mut lines = Vec::new();
    let (records, problems) = commands::export(folder.path(), &mut lines).unwrap();
    assert_eq!(records, 40, "{problems:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn what_was_begun_and_not_made_is_made_anew() {
    let folder = folder();
    fs::create_dir(folder.path().join("db.new")).unwrap();
    fs::write(folder.path().join("db.new/0.jnl"), "half").unwrap();
    let mut disk = Disk::serve(folder.path()).unwrap();
    assert!(disk.is_new() && read(&mut disk).unwrap().is_empty());
}
