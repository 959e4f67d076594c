//! warp with a constant body: what a server costs that does nothing (`scripts/bench`).
//!
//! `constant-server <port>`: `/<bytes>` is answered with so many.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use warp::Filter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .ok_or("usage: constant-server <port>")?
        .parse()?;
    let routes = warp::path::param().map(|bytes: usize| &BODY[..bytes.min(BODY.len())]);
    warp::serve(routes).run((Ipv4Addr::LOCALHOST, port)).await;
    Ok(())
}

/// Room for 100,000 refs.
static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; 16 << 20]);
