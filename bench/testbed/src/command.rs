//! Runs the system's tools, bounded in time, with errors that carry the command and what it said.

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::error::LabError;

pub(crate) const TOOL_BOUND: Duration = Duration::from_secs(20);

/// Runs a tool and returns what it wrote to its standard output.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String, LabError> {
    run_with(program, args, None, TOOL_BOUND)
}

/// Runs one `ip -batch`: a command a line, inside `namespace` if there is one.
pub(crate) fn ip_batch(namespace: Option<&str>, lines: &str) -> Result<(), LabError> {
    let mut args = Vec::new();
    if let Some(namespace) = namespace {
        args.extend(["-netns", namespace]);
    }
    args.extend(["-batch", "-"]);
    run_with("ip", &args, Some(lines), TOOL_BOUND).map(drop)
}

/// Runs a tool with `input` on its standard input and a bound on its time (coreutils' `timeout`).
pub(crate) fn run_with<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    input: Option<&str>,
    bound: Duration,
) -> Result<String, LabError> {
    let failed = |source| LabError::io(format!("cannot run {program}"), source);
    let mut child = Command::new("timeout")
        .arg("--kill-after=1")
        .arg(format!("{:.3}", bound.as_secs_f64()))
        .arg(program)
        .args(args)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A tool that ends early closes its input: its status then says why.
            scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        }
        child.wait_with_output()
    })
    .map_err(failed)?;

    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = args
        .iter()
        .map(|arg| arg.as_ref().to_string_lossy())
        .collect();
    let mut command = format!("{program} {}", words.join(" "));
    if let Some(input) = input {
        command.push_str(&format!("` with input `{}", input.trim()));
    }
    let status = match output.status.code() {
        Some(124 | 137) => format!("ended after {} s", bound.as_secs()),
        Some(127) => format!("{program} is not installed"),
        _ => output.status.to_string(),
    };
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(LabError::Command {
        command,
        status,
        stderr: String::from_utf8_lossy(said).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_the_command_and_its_words() {
        let error = run("ls", &["/nowhere-at-all"]).unwrap_err().to_string();
        assert!(
            error.contains("ls /nowhere-at-all") && error.contains("No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_tool_is_bounded_in_time() {
        let error = run_with("sleep", &["30"], None, Duration::from_millis(100))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ended after"), "{error}");
    }
}
