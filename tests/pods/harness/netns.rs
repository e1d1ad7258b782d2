//! An anonymous network namespace, kept by an open file: it vanishes with the test process.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns, unshare};

pub struct Netns {
    file: File,
}

impl Netns {
    /// A new, empty namespace. Only a short-lived thread of its own ever unshares.
    pub fn create() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("failed to create a network namespace");
            File::open("/proc/thread-self/ns/net").expect("failed to open the new namespace")
        })
        .join()
        .expect("the thread that makes a namespace died");
        Self { file }
    }

    /// A path that other programs (`ip link ... netns PATH`) can open while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Moves the calling thread into the namespace, for good.
    pub fn enter(&self) {
        setns(&self.file, CloneFlags::CLONE_NEWNET).expect("failed to enter a network namespace");
    }

    /// Runs `work` on a thread inside the namespace; commands that it spawns are inside as well.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter();
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
