//! Histories for `git fast-import`, the same in every run: one like that of a project of many years, and one of large
//! files.

use crate::load::noise::noise;
use crate::soak::random::Random;

/// Returns a history of so many commits on `main`, each of which changes some lines of three text files; now and then a
/// file comes that nothing packs. 20,000 of them are 190,000 objects and, packed, more than 100 MB.
pub fn long_history(commits: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(1, 1);
    let plan = HistoryPlan::new(commits, &mut random);
    let words = words(&mut random);
    let mut mark = 0;
    let versions = plan.versions.into_iter().map(move |versions| {
        let mut text = TextFile::new(&words, &mut random);
        let mut stream = Vec::new();
        for _ in 0..versions {
            mark += 1;
            text.change(&words, &mut random);
            blob(&mut stream, mark, &text.content());
        }
        stream
    });
    let commits = plan.changed.into_iter().enumerate().map(|(number, changed)| {
        let mut stream = head("refs/heads/main", number);
        for (file, mark) in changed {
            let line = format!("M 100644 :{mark} src/part{}/file{file}.txt\n", file % DIRECTORIES);
            stream.extend(line.bytes());
        }
        if number % COMMITS_PER_IMAGE == 0 {
            let image = noise(number as u64, IMAGE_BYTES);
            inline(&mut stream, &format!("images/{number}.bin"), &image);
        }
        stream
    });
    versions.chain(commits)
}

/// Which commit changes which file. All versions of a file come one after the other, because git writes what follows as
/// a delta; their marks count from 1.
struct HistoryPlan {
    /// How many each file has.
    versions: Vec<usize>,
    /// The files that each commit changes, with the marks of their versions.
    changed: Vec<Vec<(usize, usize)>>,
}

impl HistoryPlan {
    fn new(commits: usize, random: &mut Random) -> Self {
        let files = commits * FILES_PER_TEN_COMMITS / 10 + FILES_PER_COMMIT;
        let mut changes: Vec<Vec<usize>> = vec![Vec::new(); files];
        for commit in 0..commits {
            for _ in 0..FILES_PER_COMMIT {
                // Some files change more often than others.
                let file = random.index(files).min(random.index(files));
                if changes[file].last() != Some(&commit) {
                    changes[file].push(commit);
                }
            }
        }
        let mut changed = vec![Vec::new(); commits];
        let mut mark = 0;
        for (file, commits) in changes.iter().enumerate() {
            for commit in commits {
                mark += 1;
                changed[*commit].push((file, mark));
            }
        }
        Self {
            versions: changes.iter().map(Vec::len).collect(),
            changed,
        }
    }
}

/// Returns a history in which each of some branches has so many more bytes, which nothing packs, than the one before.
pub fn large_history(branches: Vec<String>, bytes_each: usize) -> impl Iterator<Item = Vec<u8>> {
    let from = |number: usize, branches: &[String]| match number.checked_sub(1) {
        Some(before) => format!("from {}\n", branches[before]),
        None => String::new(),
    };
    let files = bytes_each.div_ceil(LARGE_FILE_BYTES);
    (0..branches.len() * files).map(move |number| {
        let (branch, file) = (number / files, number % files);
        let mut stream = Vec::new();
        if file == 0 {
            stream.extend(head(&branches[branch], branch));
            stream.extend(from(branch, &branches).bytes());
        }
        let bytes = LARGE_FILE_BYTES.min(bytes_each - file * LARGE_FILE_BYTES);
        inline(
            &mut stream,
            &format!("large/{number}.bin"),
            &noise(number as u64, bytes),
        );
        stream
    })
}

/// Begins a commit.
fn head(branch: &str, number: usize) -> Vec<u8> {
    let message = format!("Change number {number}\n");
    let time = 1_000_000_000 + 3600 * number;
    let committer = format!("committer somebody <somebody@localhost> {time} +0000");
    let length = message.len();
    format!("commit {branch}\n{committer}\ndata {length}\n{message}\n").into_bytes()
}

fn blob(stream: &mut Vec<u8>, mark: usize, content: &[u8]) {
    stream.extend(format!("blob\nmark :{mark}\ndata {}\n", content.len()).bytes());
    stream.extend(content);
    stream.push(b'\n');
}

fn inline(stream: &mut Vec<u8>, path: &str, content: &[u8]) {
    stream.extend(format!("M 100644 inline {path}\ndata {}\n", content.len()).bytes());
    stream.extend(content);
    stream.push(b'\n');
}

/// A file of text that changes.
struct TextFile {
    lines: Vec<String>,
}

impl TextFile {
    fn new(words: &[String], random: &mut Random) -> Self {
        let count = LINES_MIN + random.index(LINES_MORE);
        Self {
            lines: (0..count).map(|_| line(words, random)).collect(),
        }
    }

    /// Replaces some lines by as many or more.
    fn change(&mut self, words: &[String], random: &mut Random) {
        let replaced = 1 + random.index(CHANGED_LINES_MAX);
        let start = random.index(self.lines.len() - replaced);
        let new: Vec<String> = (0..replaced + random.index(3)).map(|_| line(words, random)).collect();
        self.lines.splice(start..start + replaced, new);
    }

    fn content(&self) -> Vec<u8> {
        self.lines.concat().into_bytes()
    }
}

fn line(words: &[String], random: &mut Random) -> String {
    let mut line = " ".repeat(4 * random.index(4));
    for _ in 0..3 + random.index(6) {
        line += &words[random.index(words.len())];
        line.push(' ');
    }
    // Names and numbers that nobody has used before.
    line + &format!("{:x};\n", random.below(1 << 24))
}

fn words(random: &mut Random) -> Vec<String> {
    let letters: Vec<char> = ('a'..='z').collect();
    let mut word = || (0..3 + random.index(8)).map(|_| random.pick(&letters)).collect();
    (0..WORDS).map(|_| word()).collect()
}

const FILES_PER_COMMIT: usize = 3;
const FILES_PER_TEN_COMMITS: usize = 3;
const DIRECTORIES: usize = 100;
const LINES_MIN: usize = 100;
const LINES_MORE: usize = 600;
const CHANGED_LINES_MAX: usize = 40;
const WORDS: usize = 2_000;
const COMMITS_PER_IMAGE: usize = 500;
/// Enough for the gateway to maintain a repository that has one.
const IMAGE_BYTES: usize = (1 << 20) + 1;
const LARGE_FILE_BYTES: usize = 20_000_000;
