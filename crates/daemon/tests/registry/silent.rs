//! A disk that does not answer, as a network's whose server has gone: a mount of FUSE that nobody serves.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// Every call on it hangs until this is dropped, and fails then.
struct Silent {
    /// Requests come here, and nobody reads them.
    device: Option<File>,
    path: PathBuf,
}

impl Silent {
    /// Nothing where that may not be done.
    fn at(path: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-i", "-n", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "silent"]).arg(path);
        let done = mount.stdin(Stdio::from(device.try_clone().ok()?)).stderr(Stdio::null()).status().ok()?;
        done.success().then(|| Self { device: Some(device), path: path.to_owned() })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.path).status();
        self.device = None; // now whoever waits is told that it is gone
    }
}

#[tokio::test]
async fn a_directory_that_does_not_answer_holds_up_no_other_session_and_is_looked_at_when_it_does() {
    let daemon = Daemon::start().await;
    let (mine, lost) = (daemon.project("mine", &["mine"]), daemon.project("lost", &["found"]));
    let Some(silent) = Silent::at(&lost) else {
        use std::io::Write as _;
        let _told = writeln!(std::io::stderr(), "passed over: this user may not mount");
        return daemon.stop().await.close().unwrap();
    };
    let client = daemon.client().await;
    let (stuck, other) = (SessionId::new(), SessionId::new());
    keeper(&client, stuck, &lost).await;
    keeper(&client, other, &mine).await;
    settled(&client, other).await;
    assert_eq!(names(&client, other).await, ["mine"]);
    assert_eq!(names(&client, stuck).await, [""; 0]);
    drop(silent);
    let deadline = tokio::time::Instant::now() + SOON;
    while names(&client, stuck).await != ["found"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", names(&client, stuck).await);
        tokio::time::sleep(Duration::from_millis(10)).await; // between two looks at what no event of ours tells
    }
    daemon.stop().await;
}
