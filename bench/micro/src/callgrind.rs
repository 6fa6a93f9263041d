//! Running a case under valgrind's callgrind, and reading what that has written.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    case::Case,
    report::Row,
    rig::Measured,
    stages::{self, Functions},
};

/// The function to count in, as callgrind's patterns and names have it.
const WATCHED: &str = "voicelane_micro::rig::Rig::watched";

/// Has callgrind count the instructions of so many turns of a case. This program runs itself under
/// it, with `--case` and `--turns`.
pub fn profile(case: Case, turns: usize) -> anyhow::Result<Row> {
    let file = Scratch(env::temp_dir().join(format!("{case}-{}.callgrind", std::process::id())));
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--dump-line=no"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={WATCHED}*"))
        .arg(format!("--callgrind-out-file={}", file.0.display()))
        .arg(env::current_exe()?)
        .args(["--case", &case.to_string(), "--turns", &turns.to_string()])
        .output()
        .context("cannot run valgrind: is it installed?")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{case} ended with {}:\n{said}", output.status);
    }
    let measured: Measured =
        serde_json::from_slice(&output.stdout).context("the case did not say what it did")?;
    let functions = read(&file.0)?;
    let root = functions
        .keys()
        .find(|name| name.starts_with(WATCHED))
        .with_context(|| format!("{WATCHED} was not counted"))?;
    Row::new(case, &measured, &stages::split(&functions, root)?)
}

/// A file that goes with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It need not be there.
        let _ = fs::remove_file(&self.0);
    }
}

fn read(file: &Path) -> anyhow::Result<Functions> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text)
}

/// Callgrind's profile format: `fn=` begins a function, `cfn=` and `calls=` a call, whose instructions
/// are on the line after them; other lines of numbers are of the function itself.
fn parse(text: &str) -> anyhow::Result<Functions> {
    let mut functions = Functions::new();
    let mut caller = String::new();
    let mut callee = None;
    let mut called = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            name.clone_into(&mut caller);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = Some(name.to_owned());
        } else if line.starts_with("calls=") {
            called = callee.take();
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|cost| cost.parse::<u64>().ok())
                .with_context(|| format!("{line:?} says no cost"))?;
            let function = functions.entry(caller.clone()).or_default();
            match called.take() {
                Some(callee) => *function.calls.entry(callee).or_default() += cost,
                None => function.own += cost,
            }
        }
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Function;

    #[test]
    fn a_profile_is_read() {
        let text = "# callgrind format\n\
            version: 1\n\
            positions: line\n\
            events: Ir\n\
            summary: 30\n\n\
            fl=/a.rs\n\
            fn=one\n\
            0 7\n\
            fi=/b.rs\n\
            0 3\n\
            cob=/libc.so\n\
            cfi=/c.rs\n\
            cfn=two\n\
            calls=4 0\n\
            0 20\n\
            0 1\n\n\
            fn=two\n\
            0 20\n\n\
            fn=one\n\
            0 2\n\n\
            totals: 33\n";
        let two = Function {
            own: 20,
            ..Function::default()
        };
        let one = Function {
            own: 13,
            calls: [("two".to_owned(), 20)].into(),
        };
        let functions = Functions::from([("one".to_owned(), one), ("two".to_owned(), two)]);
        assert_eq!(parse(text).unwrap(), functions);
    }
}
