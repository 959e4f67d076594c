//! A plugin that is asked as strfry asks: by pipes, with one line in flight or with many.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::thread::CpuSet;
use rustix::thread::Pid;
use rustix::thread::sched_getaffinity;
use rustix::thread::sched_getcpu;
use rustix::thread::sched_setaffinity;
use serde_json::Value;

use crate::load::plugin_rate::lines::PluginLine;

/// A running plugin, ended when it is dropped. Its methods wait without tokio, which would take longer than a plugin
/// does.
pub(super) struct Asked {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Answers that were none, or not the expected ones.
    pub(super) wrong: Vec<String>,
}

impl Asked {
    /// Starts a plugin by its command, as an operator writes it into strfry.conf.
    pub(super) fn start(command: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a plugin is no git")]
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            wrong: Vec::new(),
        }
    }

    /// Asks about one event after the other, and returns how long each answer took. The plugin is on the processor of
    /// this thread meanwhile: to wake another one takes several times as long as an answer, and whether that is needed
    /// is chance.
    pub(super) fn one_by_one(&mut self, lines: &[PluginLine]) -> Vec<Duration> {
        let plugin = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let anywhere = sched_getaffinity(None).unwrap();
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        let put = |set: &CpuSet| [None, plugin].map(|thread| sched_setaffinity(thread, set).unwrap());
        put(&here);
        let took = lines.iter().map(|line| self.ask(line)).collect();
        put(&anywhere);
        took
    }

    /// Asks about one event, and returns how long the answer took.
    pub(super) fn ask(&mut self, line: &PluginLine) -> Duration {
        let mut answer = Vec::new();
        let asked_at = Instant::now();
        self.stdin.write_all(line.text.as_bytes()).unwrap();
        self.stdout.read_until(b'\n', &mut answer).unwrap();
        let took = asked_at.elapsed();
        self.check(line, &answer);
        took
    }

    /// Writes all lines as fast as they are read, and returns how long all answers took.
    pub(super) fn in_a_stream(&mut self, lines: &[PluginLine]) -> Duration {
        let mut answers = vec![Vec::new(); lines.len()];
        let input: Vec<u8> = lines.iter().flat_map(|line| line.text.bytes()).collect();
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| self.stdin.write_all(&input).unwrap());
            for answer in &mut answers {
                self.stdout.read_until(b'\n', answer).unwrap();
            }
        });
        let took = started.elapsed();
        for (line, answer) in lines.iter().zip(&answers) {
            self.check(line, answer);
        }
        took
    }

    fn check(&mut self, line: &PluginLine, answer: &[u8]) {
        let read: Value = serde_json::from_slice(answer).unwrap_or_default();
        let is_as_expected = read["id"] == *line.event_id
            && line
                .action
                .map_or_else(|| read["action"].is_string(), |action| read["action"] == action);
        if !is_as_expected {
            let answer = String::from_utf8_lossy(answer);
            self.wrong.push(format!("{answer:?} to {}", line.text.trim_end()));
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
