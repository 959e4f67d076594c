//! The corrections for a Redis that cannot be used. Pure.

/// Returns the correction for an error of Redis, which begins with a word for each reason.
pub(crate) fn mend_of(text: &str) -> &'static str {
    let mends = [
        (
            "WRONGPASS",
            "put the password of Redis into the file that redis-password-file names",
        ),
        (
            "NOAUTH",
            "Redis asks for a password: put it into a file, and name that with redis-password-file",
        ),
        ("NoPerm", RIGHTS_MEND),
        ("can't run this command", RIGHTS_MEND),
        ("too old", "install Redis 7.0 or newer"),
    ];
    let found = mends.iter().find(|(word, _)| text.contains(word));
    found.map_or("systemctl start redis-server; or correct redis-url", |(_, mend)| mend)
}

const RIGHTS_MEND: &str = "give the user the rights in docs/redis.md: redis-cli ACL SETUSER <user> \
                           '~{purgatory}:*' '&{purgatory}:wake' +@all -@dangerous +info '+config|get'";
