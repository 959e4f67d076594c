//! The listening socket that systemd, or another launcher, hands over: it stays open while one server follows another,
//! so that whoever calls meanwhile waits instead of being refused (`sd_listen_fds(3)`).

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// Why a socket that was handed over is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    /// One is listened on.
    #[error("{count} sockets were handed over: the socket unit must have one ListenStream")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// It is something else.
    #[error("what was handed over is no listening TCP socket")]
    Kind(#[source] io::Error),
}

/// Takes the socket that `LISTEN_FDS` speaks of, so that no child inherits it; `None`: there is none. This changes the
/// environment: it must be called once, before there are threads.
///
/// # Errors
/// There is more than one, or it is none.
pub(crate) fn take_listener() -> Result<Option<TcpListener>, HandOverError> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => sockets.take_tcp_listener(0).map_err(HandOverError::Kind),
        count => Err(HandOverError::Count { count }),
    }
}
