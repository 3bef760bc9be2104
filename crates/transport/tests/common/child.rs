//! Runs one test of this binary again in a process of its own, for what would disturb the others: limits, umask, user.

use std::process::Command;

const MARK: &str = "SHELLKEEP_TRANSPORT_TEST_CHILD";

/// True in the child. In the parent: runs the child, fails if it fails, and says false.
pub fn in_child(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child failed:\n{said}");
    assert!(said.contains("1 passed"), "the child did not run the test:\n{said}");
    false
}

/// Becomes another user, for good. Only for a child, and only if it is root.
pub fn become_nobody() {
    const NOBODY: &str = "65534";
    let uid = NOBODY.parse().unwrap();
    let uid = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}
