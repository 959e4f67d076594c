//! A short form of `scripts/soak`: each program is killed under load, at each kind of step, and disks have
//! faults.

use progress::CommandProgress;
use tests::soak::DiskFaultKind;
use tests::soak::Options;
use tests::soak::run;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_nothing_that_was_promised_is_lost() {
    let options = Options {
        seed: 1,
        kills: 12,
        secs: 60,
        hold_secs: 20,
    };

    let summary = run(options, &CommandProgress::quiet()).await;

    assert!(summary.is_clean(), "{summary}");
    assert!(summary.answered_ok() > 10, "nobody worked: {summary}");
    let (targets, kinds) = summary.covered();
    // Which of the steps come in time depends on how busy the machine is.
    assert!(targets >= 4 && kinds >= 3, "too little was killed: {summary}");
    let mut faults = vec![DiskFaultKind::Unreadable, DiskFaultKind::GitFails];
    if !summary.without_small_disk {
        faults.extend([DiskFaultKind::NoRoom, DiskFaultKind::Unwritable]);
    }
    for fault in faults {
        assert!(summary.faults.contains_key(&fault), "without {fault:?}: {summary}");
    }
}
