//! Versions of git, as far as this server depends on them.

/// A version of git, as far as behaviour depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GitVersion {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl GitVersion {
    /// Debian 12's, the oldest that is tested. These need it: `upload-pack --http-backend-info-refs` (2.34),
    /// `core.fsync` (2.36), `safe.directory=*` (2.35.3).
    pub(crate) const MINIMUM: Self = Self::of(2, 39, 0);
    const MULTI_PACK_REUSE: Self = Self::of(2, 44, 0);

    /// The first version of each release without the faults that affect a server: in reading attributes and long
    /// formats (CVE-2022-23521, CVE-2022-41903), and in serving a foreign repository (CVE-2024-32004, CVE-2024-32465).
    /// Later releases never had them.
    const MENDED: [Self; 7] = [
        Self::of(2, 39, 4),
        Self::of(2, 40, 2),
        Self::of(2, 41, 1),
        Self::of(2, 42, 2),
        Self::of(2, 43, 4),
        Self::of(2, 44, 1),
        Self::of(2, 45, 1),
    ];

    pub(crate) const fn of(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Returns the version of the same release that has no known fault a client can reach; `None`: this one has none.
    pub(crate) fn mended_in(self) -> Option<Self> {
        let of_release = |mended: &Self| (mended.major, mended.minor) == (self.major, self.minor);
        let mended = Self::MENDED.into_iter().find(of_release)?;
        (self < mended).then_some(mended)
    }

    /// Whether `pack.allowPackReuse` accepts `multi` (git 2.44 release notes); an older git treats the word as a bad
    /// boolean and ends.
    pub(crate) fn has_multi_pack_reuse(self) -> bool {
        self >= Self::MULTI_PACK_REUSE
    }

    /// Parses the answer of `git version`, such as `git version 2.39.5 (Apple Git-154)`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let mut numbers = answer.strip_prefix("git version ")?.split(['.', ' ', '\n', '-']);
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
            // A release candidate has none.
            patch: numbers.next().and_then(|patch| patch.parse().ok()).unwrap_or(0),
        })
    }
}

impl std::fmt::Display for GitVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_git_prints() {
        let parse = |text| GitVersion::parse(text).map(|version| (version.major, version.minor, version.patch));

        assert_eq!(parse("git version 2.39.5\n"), Some((2, 39, 5)));
        assert_eq!(parse("git version 2.39.5 (Apple Git-154)"), Some((2, 39, 5)));
        assert_eq!(parse("git version 2.55-dev"), Some((2, 55, 0)));
        assert_eq!(parse("git version 3.0.rc1"), Some((3, 0, 0)));
        assert_eq!(parse("hub version 2.14"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn versions_with_known_faults_are_told_which_has_them_no_more() {
        let mended = |version| GitVersion::parse(version)?.mended_in().map(|mended| mended.to_string());

        assert_eq!(mended("git version 2.39.0"), Some("2.39.4".to_owned()));
        assert_eq!(mended("git version 2.45.0"), Some("2.45.1".to_owned()));
        for none in [
            "git version 2.39.5",
            "git version 2.45.2",
            "git version 2.47.0",
            "git version 3.0.0",
        ] {
            assert_eq!(mended(none), None, "{none}");
        }
    }
}
