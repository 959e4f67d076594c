//! One client cannot take all connections, and one that has too many reads why it is refused.

use std::time::Duration;

use crate::fairness::least_rate::LeastRate;
use crate::http::client_address::TrustedProxies;
use crate::http::connections::ConnectionLimits;
use crate::http::connections::Connections;
use crate::http::server::Ending;
use crate::http::server::serve;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use warp::Filter;
use warp::Reply;

/// Starts a server that takes two connections from an address, and returns where it listens.
async fn start(trusted_proxies: TrustedProxies) -> std::net::SocketAddr {
    start_until(trusted_proxies, Ending::default()).await.0
}

/// As [`start`], until it is stopped; returns its task, too.
async fn start_until(trusted_proxies: TrustedProxies, ending: Ending) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = warp::any().map(|| "hello".into_response());
    let open = Connections::new(LIMITS);
    (
        address,
        tokio::spawn(serve(listener, routes, open, trusted_proxies, ending)),
    )
}

const LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 3,
    per_address_max: 2,
    least_rate: LeastRate::DEFAULT,
};

/// Asks on a connection, and returns the beginning of the answer's head.
async fn ask(stream: &mut TcpStream) -> String {
    let request = "GET / HTTP/1.1\r\nhost: here\r\n\r\n";
    // A server that refuses may have answered and closed before it read this.
    drop(stream.write_all(request.as_bytes()).await);
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[tokio::test]
async fn a_connection_too_many_of_an_address_is_told_so_until_another_ends() {
    let address = start(TrustedProxies::default()).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut stream).await, "HTTP/1.1 200");
        open.push(stream);
    }

    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut third).await, "HTTP/1.1 429");
    let mut rest = String::new();
    third.read_to_string(&mut rest).await.unwrap();
    assert!(
        rest.ends_with("\r\n\r\ntoo many connections from your address\n"),
        "{rest}"
    );

    open.pop();
    let again = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if ask(&mut stream).await == "HTTP/1.1 200" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_are_not_counted_as_one_clients() {
    let address = start("127.0.0.1".parse().unwrap()).await;

    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut stream).await, "HTTP/1.1 200");
        open.push(stream);
    }
}

/// A client that packed for more than 30 s between asking and pushing found its connection gone.
#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_minutes_unless_they_are_scarce() {
    let address = start(TrustedProxies::default()).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut stream).await, "HTTP/1.1 200");
        open.push(stream);
    }
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut last = elsewhere.connect(address).await.unwrap();
    assert_eq!(ask(&mut last).await, "HTTP/1.1 200");

    tokio::time::sleep(Duration::from_secs(240)).await;

    let mut rest = Vec::new();
    last.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"hello"), "it ended");
    for stream in &mut open {
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"hello"));
        assert_eq!(ask(stream).await, "HTTP/1.1 200");
    }
}

/// While each refusal counted as a connection until it was read, a client that had too many connections and read no
/// answer kept all others out.
#[tokio::test]
async fn refused_connections_keep_nobody_else_out() {
    let address = start(TrustedProxies::default()).await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(TcpStream::connect(address).await.unwrap());
    }

    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let asked = async {
        let mut stream = elsewhere.connect(address).await.unwrap();
        ask(&mut stream).await
    };

    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
    assert_eq!(answer.expect("kept out"), "HTTP/1.1 200");
}

/// A client that had just sent its next request when the server closed the connection lost it.
#[tokio::test]
async fn a_connection_that_is_kept_is_answered_once_more_when_the_server_stops() {
    let ending = Ending::default();
    let (address, server) = start_until(TrustedProxies::default(), ending.clone()).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    // One that has not asked for anything yet does not keep the server.
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut silent = elsewhere.connect(address).await.unwrap();
    for stream in [&mut kept, &mut idle] {
        assert_eq!(ask(stream).await, "HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"hello") {
            assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0);
        }
    }

    ending.stopping.cancel();
    let mut nothing = [0];
    let a_moment = tokio::time::timeout(Duration::from_millis(100), idle.read(&mut nothing));
    assert!(
        a_moment.await.is_err(),
        "the connection is closed before the client can know"
    );
    kept.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut last = String::new();
    kept.read_to_string(&mut last).await.unwrap();

    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    assert!(
        last.contains("connection: close\r\n") && last.ends_with("hello"),
        "{last}"
    );
    assert_eq!(idle.read(&mut nothing).await.unwrap(), 0);
    assert_eq!(silent.read(&mut nothing).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
    tokio::time::timeout(Duration::from_secs(20), server)
        .await
        .unwrap()
        .unwrap();
}
