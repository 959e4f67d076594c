//! The file `packed-refs`: many refs in one file, which one rename replaces (git `refs/packed-backend.c`).

use std::collections::BTreeMap;

use shared::git::Oid;
use shared::git::RefName;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackedRefs {
    pub(super) refs: BTreeMap<RefName, Oid>,
    /// What those refs point at in the end that hold an annotated tag.
    pub(super) peeled: BTreeMap<RefName, Oid>,
    /// Every tag has its `^` line, so a ref without one is no tag.
    pub(super) is_fully_peeled: bool,
    /// The lines of refs by names that this server never writes (`refs/stash`): an operator's, to be kept.
    pub(super) others: BTreeMap<String, String>,
}

impl PackedRefs {
    /// Parses the file; `None` if a line is not git's. No file is an empty one.
    pub(super) fn parse(content: &str) -> Option<Self> {
        let mut packed = Self {
            is_fully_peeled: content.is_empty(),
            ..Self::default()
        };
        let (mut last, mut last_other) = (None, None);
        for line in content.lines() {
            if let Some(header) = line.strip_prefix("# pack-refs with:") {
                packed.is_fully_peeled = header.split(' ').any(|word| word == "fully-peeled");
            } else if let Some(peeled) = line.strip_prefix('^') {
                let peeled = peeled.parse().ok()?;
                if let Some(name) = last.take() {
                    packed.peeled.insert(name, peeled);
                } else if let Some(other) = last_other.take().and_then(|name| packed.others.get_mut(name)) {
                    other.push_str(&format!("{line}\n"));
                }
            } else {
                let (oid, name) = line.split_once(' ')?;
                let oid = oid.parse().ok()?;
                last = name.parse::<RefName>().ok();
                last_other = last.is_none().then_some(name);
                match &last {
                    Some(name) => drop(packed.refs.insert(name.clone(), oid)),
                    None => drop(packed.others.insert(name.to_owned(), format!("{line}\n"))),
                }
            }
        }
        Some(packed)
    }

    pub(super) fn render(&self) -> String {
        let mut lines: BTreeMap<&str, String> = BTreeMap::new();
        for (name, oid) in &self.refs {
            let peeled = self.peeled.get(name).map(|target| format!("^{target}\n"));
            lines.insert(name.as_str(), format!("{oid} {name}\n{}", peeled.unwrap_or_default()));
        }
        lines.extend(self.others.iter().map(|(name, line)| (name.as_str(), line.clone())));
        let traits = match self.is_fully_peeled {
            true => "peeled fully-peeled sorted",
            false => "sorted",
        };
        let header = format!("# pack-refs with: {traits} \n");
        std::iter::once(header).chain(lines.into_values()).collect()
    }
}
