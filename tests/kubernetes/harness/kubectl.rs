//! The programs that the tests drive.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

fn run(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let said = || format!("{program} {}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", said()))?;
    // A program that does not read its input has said why by itself.
    child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", said()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{}: {}{}", said(), text(&output.stdout), text(&output.stderr)))
}

/// kubectl with this input; its output.
pub fn kubectl(args: &[&str], input: &str) -> Result<String, String> {
    run("kubectl", args, input)
}

/// `kubectl get ... -o json`.
pub fn kubectl_json(args: &[&str]) -> Result<Value, String> {
    let text = kubectl(&[args, &["-o", "json"]].concat(), "")?;
    serde_json::from_str(&text).map_err(|error| format!("kubectl {}: {error}", args.join(" ")))
}

pub fn docker(args: &[&str]) -> Result<String, String> {
    run("docker", args, "")
}

/// A node loses its power (`stop`), or gets it back (`start`).
pub fn node_power(verb: &str, node: &str) -> Result<String, String> {
    let command = std::env::var("NODE_POWER").map_err(|_| "NODE_POWER is not set; see the Makefile".to_owned())?;
    run("sh", &["-c", &format!("{command} {verb} {node}")], "")
}
