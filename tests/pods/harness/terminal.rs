//! What a test says on the terminal: libtest keeps what `println!` says of a test that passes.

use std::io::Write as _;

pub fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("failed to write to the terminal");
}

/// This test, or a part of it, does not run here.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    say(&format!("SKIPPED {}: {why}\n", thread.name().unwrap_or_default()));
}
