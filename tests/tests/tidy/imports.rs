//! No two files import each other: what a file needs can be read before it, and each can be moved by itself.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::Source;
use crate::tree::assert_none;
use crate::tree::defined_in;
use crate::tree::rust_sources;
use crate::tree::without_comments_and_literals;
use crate::tree::without_tests;
use crate::tree::words_of;

#[test]
fn no_two_files_import_each_other() {
    let sources = rust_sources();
    let crates: Vec<Crate<'_>> = crate_roots(&sources)
        .iter()
        .map(|root| Crate::read(root, &sources))
        .collect();
    let files: usize = crates.iter().map(|it| it.files.len()).sum();
    assert!(files > 150, "only {files} files found by `mod`: are the crates read?");

    let circles: BTreeSet<String> = crates.iter().flat_map(Crate::circles).collect();

    assert_none(
        &circles.into_iter().collect::<Vec<_>>(),
        "files that import each other can only be understood and moved together: put what both need into a third \
         (through a `pub use` the importer depends on the file that defines the name)",
    );
}

/// The module tree of one crate: modules by their paths.
struct Crate<'s> {
    /// The files by module path.
    files: BTreeMap<Vec<String>, &'s Source>,
    code: BTreeMap<Vec<String>, String>,
}

/// Returns the files that cargo finds by itself.
fn crate_roots(sources: &[Source]) -> Vec<String> {
    let is_root = |path: &str| {
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        match (parts.last(), name) {
            (Some(&"src"), "lib.rs" | "main.rs") | (Some(&"bin"), _) => true,
            // An integration test: a file of its own, or a folder with a main.rs.
            (Some(&"tests"), _) => parts.len() > 1 && is_package(&parts[..parts.len() - 1], sources),
            (Some(_), "main.rs") => {
                parts.len() > 2 && parts[parts.len() - 2] == "tests" && is_package(&parts[..parts.len() - 2], sources)
            }
            (Some(_) | None, _) => false,
        }
    };
    let paths = sources.iter().map(|source| source.path.clone());
    paths.filter(|path| is_root(path)).collect()
}

/// Whether the folder has sources of a package, and so may have integration tests.
fn is_package(folder: &[&str], sources: &[Source]) -> bool {
    let src = format!("{}/src/", folder.join("/"));
    sources.iter().any(|source| source.path.starts_with(&src))
}

impl<'s> Crate<'s> {
    fn read(root: &str, sources: &'s [Source]) -> Self {
        let mut read = Self {
            files: BTreeMap::new(),
            code: BTreeMap::new(),
        };
        read.add(Vec::new(), root, sources);
        read
    }

    fn add(&mut self, module: Vec<String>, path: &str, sources: &'s [Source]) {
        let Some(source) = sources.iter().find(|source| source.path == path) else {
            return;
        };
        let folder = Path::new(path).parent().unwrap();
        let is_folder = module.is_empty() || path.ends_with("/mod.rs");
        let below = match is_folder {
            true => folder.to_owned(),
            false => folder.join(module.last().unwrap()),
        };
        let mut named = None;
        for line in source.text.lines() {
            let line = line.trim();
            if let Some(attribute) = line.strip_prefix("#[path = \"") {
                named = attribute.split('"').next().map(|name| normal(&folder.join(name)));
            }
            let Some(name) = declared_module(line) else { continue };
            let child = [module.clone(), vec![name.to_owned()]].concat();
            let file = |name: String| below.join(name).display().to_string();
            let candidates = [
                named.take(),
                Some(file(format!("{name}.rs"))),
                Some(file(format!("{name}/mod.rs"))),
            ];
            for candidate in candidates.into_iter().flatten() {
                if !self.files.contains_key(&child) {
                    self.add(child.clone(), &candidate, sources);
                }
            }
        }
        self.code.insert(
            module.clone(),
            without_comments_and_literals(without_tests(&source.text)),
        );
        self.files.insert(module, source);
    }

    /// Returns the other files that the paths in a module's code lead to, each with one of these paths.
    fn imports(&self, module: &[String]) -> BTreeMap<&'s str, String> {
        let paths = paths_in(&self.code[module]);
        let files = paths
            .iter()
            .filter_map(|path| Some((self.file_of(module, path, 0)?, path.join("::"))));
        let own = self.files[module].path.as_str();
        files.filter(|(file, _)| *file != own).collect()
    }

    /// Returns the file that defines what a path names, by way of every `pub use`.
    fn file_of(&self, module: &[String], path: &[String], followed: usize) -> Option<&'s str> {
        let mut at: Vec<String> = match path[0].as_str() {
            "crate" => Vec::new(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            "self" => module.to_vec(),
            child => {
                let child = [module.to_vec(), vec![child.to_owned()]].concat();
                self.files.contains_key(&child).then_some(child)?
            }
        };
        let mut rest = &path[1..];
        while let Some((next, behind)) = rest.split_first() {
            let below = [at.clone(), vec![next.clone()]].concat();
            if next == "super" {
                at.pop()?;
            } else if self.files.contains_key(&below) {
                at = below;
            } else {
                break;
            }
            rest = behind;
        }
        let reexported = rest.first().filter(|_| followed < FOLLOWED_MAX).and_then(|name| {
            let uses = uses_in(&self.code[&at]);
            let of_this_name = uses.iter().filter(|used| used.is_public && used.name == *name);
            let named = of_this_name.filter_map(|used| self.file_of(&at, &used.path, followed + 1));
            // Of globs, the one whose module defines it.
            let globs = uses.iter().filter(|used| used.is_public && used.name == "*");
            let globbed = globs
                .filter_map(|used| {
                    let inner = [&used.path[..used.path.len() - 1], std::slice::from_ref(name)].concat();
                    self.file_of(&at, &inner, followed + 1)
                })
                .filter(|file| self.defines(file, name));
            named.chain(globbed).next()
        });
        Some(reexported.unwrap_or(&self.files[&at].path))
    }

    fn defines(&self, file: &str, name: &str) -> bool {
        let mut modules = self.files.iter().filter(|(_, source)| source.path == file);
        modules.any(|(module, _)| {
            let mut lines = self.code[module].lines();
            lines.any(|line| defined_in(line).any(|(_, defined)| defined == name))
        })
    }

    /// Returns each group of files that import each other, with its imports.
    fn circles(&self) -> Vec<String> {
        let mut imports: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
        for (module, source) in &self.files {
            imports.entry(&source.path).or_default().extend(self.imports(module));
        }
        let reached = |from: &str| {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&str> = vec![from];
            while let Some(file) = next.pop() {
                for import in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
                    if reached.insert(*import) {
                        next.push(import);
                    }
                }
            }
            reached
        };
        let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|file| (*file, reached(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, files) in reached.iter().filter(|(file, files)| files.contains(*file)) {
            let circle: BTreeSet<&str> = files
                .iter()
                .copied()
                .filter(|other| reached[other].contains(file))
                .collect();
            let within = |file: &&str| {
                let imported = imports[file].iter().filter(|(other, _)| circle.contains(*other));
                let imported: Vec<String> = imported.map(|(other, path)| format!("{other} ({path})")).collect();
                format!("{file} -> {}", imported.join(", "))
            };
            let text: Vec<String> = circle.iter().map(within).collect();
            circles.insert(text.join("\n    "));
        }
        circles.into_iter().collect()
    }
}

/// Returns the module that a line declares to be in a file of its own.
fn declared_module(line: &str) -> Option<&str> {
    let declaration = line.strip_suffix(';')?;
    let (before, name) = declaration.rsplit_once("mod ")?;
    let is_declaration = before.is_empty() || before.trim_end().ends_with("pub") || before.trim_end().ends_with(')');
    (is_declaration && words_of(name).count() == 1).then_some(name)
}

struct Used {
    is_public: bool,
    name: String,
    path: Vec<String>,
}

/// Returns the imports of a file; rustfmt has each on a line of its own.
fn uses_in(code: &str) -> Vec<Used> {
    let used = |line: &str| {
        let (before, path) = line.trim().strip_suffix(';')?.split_once("use ")?;
        let (path, name) = match path.split_once(" as ") {
            Some((path, name)) => (path, Some(name.to_owned())),
            None => (path, None),
        };
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        Some(Used {
            is_public: before.starts_with("pub"),
            name: name.or_else(|| path.last().cloned())?,
            path,
        })
    };
    code.lines().filter_map(used).collect()
}

/// Returns the paths that may lead to another file: those that begin with `crate`, `super` or `self`, and those of
/// imports, which may begin with a module below.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    // A visibility names a module and imports nothing of it.
    let code: String = code
        .split("pub(in ")
        .enumerate()
        .fold(String::new(), |code, (n, part)| {
            code + if n == 0 {
                part
            } else {
                part.split_once(')').map_or("", |(_, behind)| behind)
            }
        });
    let mut paths: Vec<Vec<String>> = uses_in(&code).into_iter().map(|used| used.path).collect();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let qualified = code.split(|c: char| !is_part(c)).filter(|text| text.contains("::"));
    for text in qualified {
        let path: Vec<String> = text.trim_matches(':').split("::").map(str::to_owned).collect();
        // In code a single lower-case word before `::` is a module below or of another crate: the tree knows.
        paths.push(path);
    }
    paths.retain(|path| path.iter().all(|part| !part.is_empty()));
    paths
}

/// Takes `..` out of a path.
fn normal(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().unwrap().split('/') {
        match part {
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Follows of a name from one `pub use` to the next.
const FOLLOWED_MAX: usize = 8;

#[test]
fn circles_are_seen() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let circles = |sources: &[Source]| Crate::read("a/src/lib.rs", sources).circles().len();
    let root = source("a/src/lib.rs", "mod one;\npub mod two;\n");
    let two = source(
        "a/src/two/mod.rs",
        "mod three;\npub(crate) use three::Three;\npub(crate) struct Two;\n",
    );
    let three = |text: &str| source("a/src/two/three.rs", text);
    let one = source("a/src/one.rs", "use crate::two::Three;\n");

    // Through the `pub use` of its parent `one` imports `three`.
    let acyclic = [root, two, three("pub(crate) struct Three;\n"), one];
    assert_eq!(circles(&acyclic), 0);
    let [root, two, _, one] = acyclic;
    let by_sibling = [root, two, three("use crate::one::One;\n"), one];
    assert_eq!(circles(&by_sibling), 1);
    let [root, two, _, one] = by_sibling;
    // What a child has of its parent is defined there.
    let by_parent = [root, two, three("fn f() {\n    super::Two;\n}\n"), one];
    assert_eq!(circles(&by_parent), 1);
    let [root, two, _, one] = by_parent;
    let in_tests = [
        root,
        two,
        three("#[cfg(test)]\nmod tests {\n    use super::super::Two;\n}\n"),
        one,
    ];
    assert_eq!(circles(&in_tests), 0);
    let [root, two, _, one] = in_tests;
    let visible = [root, two, three("pub(in crate::two) struct Three;\n"), one];
    assert_eq!(circles(&visible), 0);
}
