//! `voicelane pki`: certificates for servers, routers, agents and operators.

use std::path::{Path, PathBuf};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use time::OffsetDateTime;
use voicelane_identity::{
    Authority, Leaf, Role,
    authority::{AuthorityError, Issued, State, Validity, leaf_of, state},
    utc,
};
use voicelane_types::with_causes;

use crate::{client::Failure, output::Output, text::pki as tables};

const HELP_END: &str = "\
A QoS server, two routers, a call agent and an operator, all on one machine:
  voicelane pki init --domain voice.example.net
  voicelane pki issue server s1 --out /etc/voicelane/server
  voicelane pki issue router r1 --out /etc/voicelane/r1
  voicelane pki issue router r2 --out /etc/voicelane/r2
  voicelane pki issue agent sip --out /etc/voicelane/agent
  voicelane pki issue operator alice --out ~/.voicelane
  voicelane-server --cert /etc/voicelane/server/cert.pem --key /etc/voicelane/server/key.pem \\
      --ca /etc/voicelane/server/ca.pem --crl /etc/voicelane/pki/crl.pem --listen 192.0.2.10:7400
Each folder has cert.pem, key.pem and ca.pem (a server's crl.pem, too), for its owner alone: copy it to
where its program runs, over a channel that is safe, and give it to the user that the program runs as.

Every day, by a timer: renews what two thirds of its time is over for. Programs see it by themselves.
  voicelane pki renew /etc/voicelane/r1

A router was stolen: revoke it, and copy crl.pem to the servers, which close its connections within a
minute (at once with SIGHUP).
  voicelane pki revoke router r1
  voicelane pki show

Whoever has ca-key.pem can be anybody: keep the folder (--authority) where few come.";

/// Certificates: init, issue, renew, revoke, show.
///
/// The QoS server knows who speaks by certificates. Each has one name, spiffe://DOMAIN/voicelane/ROLE/ID,
/// and the role says what it may do: a router attaches in its own name; an agent adds, changes and deletes
/// its own calls (ID is its agent_id); an operator reads all and deletes any call; a server is one.
/// Servers and clients verify each other, by TLS 1.3.
#[derive(Args, Debug)]
#[command(after_help = HELP_END)]
pub(crate) struct Pki {
    /// The authority's folder.
    #[arg(
        long,
        global = true,
        env = "VOICELANE_PKI",
        value_name = "DIR",
        default_value = "/etc/voicelane/pki"
    )]
    authority: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority: a key and a certificate that is good for 10 years.
    Init {
        /// The domain of all names.
        #[arg(long, value_name = "DOMAIN", default_value = "voicelane")]
        domain: String,
    },
    /// Issue a certificate, with a new key, into a folder of its own.
    Issue {
        /// What it may do.
        #[arg(value_parser = roles())]
        role: Role,
        /// The router's id, the agent's name (agent_id), or any name of an operator or server: 1 to 128
        /// of A-Z, a-z, 0-9, ".", "-" and "_".
        id: String,
        /// The folder [default: ROLE-ID].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// For how many days it is good: 1 to 3650.
        #[arg(long, default_value_t = 30)]
        days: u64,
    },
    /// Put a new key and certificate of the same name in place of those in a folder, if two thirds of
    /// their time are over. Those before count until theirs is.
    Renew {
        /// The folder that `issue` wrote.
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// Renew it also if it is not due.
        #[arg(long)]
        always: bool,
    },
    /// Take back all certificates of a name: no server lets them in any more that has the new crl.pem.
    Revoke {
        /// Role of the certificate to revoke
        #[arg(required_unless_present = "serial", requires = "id", value_parser = roles())]
        role: Option<Role>,
        /// Id within the role, as in its SPIFFE name
        id: Option<String>,
        /// Only the one with this serial number.
        #[arg(long, value_name = "HEX", conflicts_with = "role")]
        serial: Option<String>,
    },
    /// Show all certificates that were issued; or the one in a file, or in a folder that `issue` wrote.
    Show {
        /// The file or folder.
        path: Option<PathBuf>,
    },
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|name| name.parse::<Role>())
}

/// Certificates, as they are printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificates {
    pub(crate) certificates: Vec<Certificate>,
}

/// A certificate, as it is printed. Times are RFC 3339.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub(crate) name: String,
    pub(crate) role: &'static str,
    pub(crate) id: String,
    pub(crate) serial: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) renewal: String,
    pub(crate) state: &'static str,
}

impl Certificate {
    fn new(leaf: &Leaf, state: State) -> Self {
        Self {
            name: leaf.name.to_string(),
            role: leaf.name.role().as_str(),
            id: leaf.name.id().to_owned(),
            serial: leaf.serial.to_string(),
            not_before: utc(leaf.not_before),
            not_after: utc(leaf.not_after),
            renewal: utc(leaf.renewal()),
            state: state.as_str(),
        }
    }
}

#[derive(Serialize)]
struct Made {
    authority: String,
    domain: String,
}

/// Carries a command out.
pub(crate) fn run(json: bool, pki: &Pki) -> Result<(), Failure> {
    let output = Output { json };
    let now = OffsetDateTime::now_utc();
    let said = |error: AuthorityError| failure(&error);
    let authority = || Authority::open(&pki.authority).map_err(said);
    let print = |certificates: Vec<Certificate>| {
        output.print(&Certificates { certificates }, tables::certificates)
    };
    match &pki.command {
        Command::Init { domain } => {
            let authority = Authority::init(&pki.authority, domain, now).map_err(said)?;
            let made = Made {
                authority: pki.authority.display().to_string(),
                domain: authority.domain().to_owned(),
            };
            output.print(&made, |it| {
                format!("made an authority of {} in {}", it.domain, it.authority)
            })
        }
        Command::Issue {
            role,
            id,
            out,
            days,
        } => {
            let role = *role;
            let default = || PathBuf::from(format!("{role}-{id}"));
            let out = out.clone().unwrap_or_else(default);
            let validity = Validity::days(now, *days).map_err(said)?;
            let issued = authority()?.issue(role, id, validity, &out);
            let leaf = issued.map_err(said)?;
            output.print(&Certificate::new(&leaf, State::Valid), |it| {
                let (out, ca) = (out.display(), pki.authority.display());
                let mut text = format!(
                    "issued {} until {}: cert.pem, key.pem and ca.pem in {out}",
                    it.name, it.not_after
                );
                if role == Role::Server {
                    text += &format!("\nrevoked certificates: {ca}/crl.pem, copied to {out}, too");
                }
                text
            })
        }
        Command::Renew { dirs, always } => {
            let authority = authority()?;
            let mut certificates = Vec::new();
            for dir in dirs {
                let renewed = authority.renew(dir, *always, now).map_err(said)?;
                let leaf = match renewed {
                    Some(leaf) => leaf,
                    None => one(dir)?,
                };
                certificates.push(Certificate::new(&leaf, state(&leaf, now)));
            }
            print(certificates)
        }
        Command::Revoke { role, id, serial } => {
            let authority = authority()?;
            let revoked = match (role, id, serial) {
                (_, _, Some(serial)) => authority.revoke_serial(&serial.to_ascii_lowercase(), now),
                (Some(role), Some(id), None) => authority.revoke(*role, id, now),
                _ => return Err(Failure::Usage("give ROLE and ID, or --serial".into())),
            };
            let revoked = revoked.map_err(said)?.into_iter();
            let rows = revoked.map(|leaf| Certificate::new(&leaf, State::Revoked));
            print(rows.collect())?;
            if !json {
                let list = authority.crl();
                eprintln!("copy {} to the servers", list.display());
            }
            Ok(())
        }
        Command::Show { path: Some(path) } => {
            let leaf = one(path)?;
            print(vec![Certificate::new(&leaf, state(&leaf, now))])
        }
        Command::Show { path: None } => {
            let issued = authority()?.issued(now).map_err(said)?;
            let row = |it: &Issued| Certificate::new(&it.leaf, it.state);
            print(issued.iter().map(row).collect())
        }
    }
}

fn one(path: &Path) -> Result<Leaf, Failure> {
    let file = if path.is_dir() {
        path.join("cert.pem")
    } else {
        path.to_owned()
    };
    leaf_of(&file).map_err(|error| failure(&AuthorityError::Files(error)))
}

fn failure(error: &AuthorityError) -> Failure {
    Failure::Said {
        code: "PKI",
        message: with_causes(error),
    }
}
