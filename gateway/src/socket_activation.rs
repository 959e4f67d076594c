//! Socket activation: the listening socket that systemd or another launcher passes (`sd_listen_fds(3)`). It stays open
//! while one server follows another, so that clients wait meanwhile instead of being refused.

use std::net::TcpListener;

use listenfd::ListenFd;

use crate::command_error::CommandError;

/// Takes the socket that `LISTEN_FDS` announces, so that no child inherits it; `None`: there is none. This changes the
/// environment: it must be called once, before there are threads.
///
/// # Errors
/// There is more than one, or it is not a listening TCP socket.
pub(crate) fn take_listener() -> Result<Option<TcpListener>, CommandError> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => sockets.take_tcp_listener(0).map_err(CommandError::because(
            "the descriptor passed by socket activation is not a listening TCP socket",
        )),
        count => Err(CommandError::new(format!(
            "{count} sockets were passed by socket activation: the socket unit must have one ListenStream"
        ))),
    }
}
