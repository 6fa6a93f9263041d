//! Certificates.

use super::table;
use crate::pki::Certificates;

/// One row for each certificate.
pub(crate) fn certificates(answer: &Certificates) -> String {
    let rows = answer.certificates.iter().map(|it| {
        [
            it.role.to_owned(),
            it.id.clone(),
            it.state.to_owned(),
            it.not_after.clone(),
            it.renewal.clone(),
            it.serial.clone(),
        ]
    });
    table(["ROLE", "ID", "STATE", "UNTIL", "RENEW AT", "SERIAL"], rows)
}
