//! Everything that the fuzzer has found, once more.

use std::fs;
use std::path::Path;

use fuzz_targets::TARGETS;

#[test]
fn nothing_in_the_corpus_breaks_a_rule() {
    for (name, target) in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files: Vec<_> = fs::read_dir(&corpus)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert!(files.len() >= 10, "{name} has a corpus of {}", files.len());
        for file in files {
            let data = fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&data));
            assert!(outcome.is_ok(), "{name} breaks on {}", file.display());
        }
    }
}
