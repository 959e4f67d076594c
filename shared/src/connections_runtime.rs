//! Whose threads read and write a connection: those of the runtime in which its client was made, not of the task that
//! needs the connection first. The gateway's background work has threads of its own, behind all others; what pushes
//! share with it must not be there.

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;

/// The runtime that connections belong to. Outside of any it is that of each caller.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionsRuntime(Option<Handle>);

impl ConnectionsRuntime {
    /// Takes the one that runs now.
    pub(crate) fn current() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Does `work`, whose sockets and tasks belong to this runtime. Boxed, because all who need a connection have it in
    /// futures of their own, and the compiler bounds how deep these may be.
    pub(crate) async fn open<T>(&self, work: BoxFuture<'_, T>) -> T {
        match &self.0 {
            Some(runtime) => TokioContext::new(work, runtime.clone()).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;
    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_opened_for_another_runtime_outlives_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let here = ConnectionsRuntime::current();
        let opened = thread::spawn(move || {
            // It has neither sockets nor a clock.
            let elsewhere = Builder::new_current_thread().build().unwrap();
            elsewhere
                .block_on(here.open(Box::pin(TcpStream::connect(address))))
                .unwrap()
        });

        let mut ours = opened.join().unwrap();

        ours.write_all(b"x").await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    }
}
