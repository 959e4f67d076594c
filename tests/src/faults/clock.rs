//! A clock that a test can move: what a program is told of the time of day (`clock_gettime(2)`, `gettimeofday(2)`,
//! `time(2)`) is the system's and as much more as the test wants. What it is told of time that passes is untouched.

use std::path::Path;
use std::path::PathBuf;

use crate::harness::process::shell;

/// The clock of programs that are started with [`MovableClock::environment`].
#[derive(Debug, Clone)]
pub struct MovableClock {
    library: PathBuf,
    offset: PathBuf,
}

impl MovableClock {
    /// Makes one that shows the system's time. Its files are in `folder`.
    ///
    /// # Panics
    /// It cannot be compiled.
    pub async fn in_folder(folder: &Path) -> Self {
        let clock = Self {
            library: folder.join("clock.so"),
            offset: folder.join("clock-offset"),
        };
        clock.move_to(0);
        let compile = format!("cc -shared -fPIC -o {} -x c -", clock.library.display());
        shell(&compile, SOURCE).await;
        clock
    }

    /// Returns what makes a program see it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("CLOCK_OFFSET", self.offset.display().to_string()),
        ]
    }

    /// Shows a time that is so many seconds ahead of the system's.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn move_to(&self, secs_ahead: i64) {
        std::fs::write(&self.offset, secs_ahead.to_ne_bytes()).unwrap();
    }
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t ahead(void) {
    int64_t secs = 0;
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    if (file >= 0) {
        if (read(file, &secs, sizeof secs) != sizeof secs) secs = 0;
        close(file);
    }
    return secs;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now) *now = time.tv_sec;
    return time.tv_sec;
}
"#;
