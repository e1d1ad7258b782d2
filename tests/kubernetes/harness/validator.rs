//! A program of PyPI that has the schemas of Kubernetes' releases.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest one, whose schemas reach to Kubernetes 1.37.
const VALIDATOR: &str = "1.37.0";

/// A Python that has the validator; made here once. One that was left half made, or is of another version, is replaced.
pub fn validator() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes-validate");
    let python = target.join("bin/python");
    let version = "import kubernetes_validate, importlib.metadata as m; print(m.version('kubernetes-validate'))";
    if try_python3(&python, &["-c", version]).is_ok_and(|found| found.trim() == VALIDATOR) {
        return python;
    }
    let system = Path::new("python3");
    if let Err(error) = try_python3(system, &["-c", "import venv, ensurepip"]) {
        panic!("python3 with venv is missing, which the schemas need (Debian: apt-get install python3-venv): {error}");
    }
    python3(system, &["-m", "venv", "--clear", &target.to_string_lossy()]);
    let package = format!("kubernetes-validate=={VALIDATOR}");
    if let Err(error) = try_python3(&python, &["-m", "pip", "install", "--quiet", &package]) {
        panic!("{package} cannot be fetched from PyPI: {error}");
    }
    python
}

pub fn python3(program: &Path, args: &[&str]) -> String {
    try_python3(program, args).unwrap_or_else(|error| panic!("{error}"))
}

fn try_python3(program: &Path, args: &[&str]) -> Result<String, String> {
    let said = || format!("{} {}", program.display(), args.join(" "));
    let output = Command::new(program).args(args).output().map_err(|error| format!("{}: {error}", said()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok(out) } else { Err(format!("{}: {out}{error}", said())) }
}
