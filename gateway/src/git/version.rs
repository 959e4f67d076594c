//! Versions of git, as far as what this server asks of git depends on them.

/// A version of git, as far as behaviour depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GitVersion {
    /// The `2` of 2.47.
    pub(crate) major: u32,
    /// The `47` of 2.47.
    pub(crate) minor: u32,
}

impl GitVersion {
    /// Debian 12's, the oldest that is tested. What needs it: `upload-pack --http-backend-info-refs` (2.34),
    /// `core.fsync` (2.36), `safe.directory=*` (2.35.3).
    pub(crate) const MINIMUM: Self = Self { major: 2, minor: 39 };
    const SYMREF_UPDATE: Self = Self { major: 2, minor: 46 };
    const MULTI_PACK_REUSE: Self = Self { major: 2, minor: 44 };

    /// Tells whether `update-ref --stdin` knows `symref-update` (git 2.46 release notes).
    pub(crate) fn has_symref_update(self) -> bool {
        self >= Self::SYMREF_UPDATE
    }

    /// Tells whether `pack.allowPackReuse` knows `multi` (git 2.44 release notes); an older git takes the word for a
    /// bad boolean and ends.
    pub(crate) fn has_multi_pack_reuse(self) -> bool {
        self >= Self::MULTI_PACK_REUSE
    }

    /// Parses the answer of `git version`, such as `git version 2.39.5 (Apple Git-154)`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let mut numbers = answer.strip_prefix("git version ")?.split(['.', ' ', '\n', '-']);
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for GitVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_git_prints() {
        let parse = |text| GitVersion::parse(text).map(|version| (version.major, version.minor));

        assert_eq!(parse("git version 2.39.5"), Some((2, 39)));
        assert_eq!(parse("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse("git version 2.55-dev"), Some((2, 55)));
        assert_eq!(parse("git version 3.0.rc1"), Some((3, 0)));
        assert_eq!(parse("hub version 2.14"), None);
        assert_eq!(parse(""), None);
    }
}
