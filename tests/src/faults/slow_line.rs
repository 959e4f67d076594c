//! A line to a server that stands still after the beginning of what a client sends, until it is opened.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

/// Listens before a server and passes connections on, but no more than the beginning of what a client sends on one
/// until it is open.
pub struct SlowLine {
    server: String,
    address: String,
    is_open: watch::Sender<bool>,
    standing: watch::Receiver<usize>,
}

impl SlowLine {
    /// Listens before the server at `host:port`.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (is_open, opened) = watch::channel(false);
        let (stands, standing) = watch::channel(0);
        let stands = Arc::new(stands);
        let upstream: Arc<str> = server.as_str().into();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, opened, stands) = (Arc::clone(&upstream), opened.clone(), Arc::clone(&stands));
                tokio::spawn(async move {
                    // A server that does not listen any more is one that refuses.
                    let Ok(server) = TcpStream::connect(&*upstream).await else {
                        return;
                    };
                    let (mut from_server, to_server) = server.into_split();
                    let (from_client, mut to_client) = client.into_split();
                    tokio::spawn(pass_slowly(from_client, to_server, opened, stands));
                    tokio::io::copy(&mut from_server, &mut to_client).await.ok();
                });
            }
        });
        Self {
            server,
            address,
            is_open,
            standing,
        }
    }

    /// Returns the same URL by this line.
    pub fn url(&self, url: &str) -> String {
        url.replace(&self.server, &self.address)
    }

    /// Waits until so many connections stand still.
    ///
    /// # Panics
    /// Nobody can come any more.
    pub async fn stands(&self, connections: usize) {
        let mut standing = self.standing.clone();
        standing.wait_for(|count| *count >= connections).await.unwrap();
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn pass_slowly(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut opened: watch::Receiver<bool>,
    stands: Arc<watch::Sender<usize>>,
) {
    let mut passed = 0;
    let mut chunk = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if passed > BEGINNING_BYTES && !*opened.borrow() {
            stands.send_modify(|count| *count += 1);
            // A line whose test has ended is closed.
            if opened.wait_for(|open| *open).await.is_err() {
                break;
            }
        }
        passed += read;
        if to.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
}

/// Passed at once: enough for a request's head, the command list and the start of the pack.
const BEGINNING_BYTES: usize = 100 << 10;
