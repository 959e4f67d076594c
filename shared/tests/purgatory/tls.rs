//! A Redis behind TLS: by a certificate that is trusted, and with one of our own where it asks for one.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use nostr::key::Keys;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::SanType;
use shared::purgatory::*;
use tempfile::TempDir;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::redis_program;

use crate::fixture::*;
use crate::on_redis::RECOVERY;
use crate::server::RedisServer;

/// Certificates by an authority of their own, as files.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Where both have the same name, the one is taken for the other.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        for name in ["redis", "ours"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params
                .subject_alt_names
                .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
            let certificate = params.signed_by(&key, &authority).unwrap();
            std::fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What redis-server and its sentinels are told.
    fn arguments(&self, tls_port: u16) -> Vec<String> {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let files = [
            ("cert-file", path("redis.pem")),
            ("key-file", path("redis.key")),
            ("ca-cert-file", path("ca.pem")),
            ("port", tls_port.to_string()),
            ("replication", "yes".to_owned()),
        ];
        let arguments = files.into_iter().map(|(name, value)| [format!("--tls-{name}"), value]);
        arguments.flatten().collect()
    }

    fn authorities(&self) -> Option<Vec<u8>> {
        Some(std::fs::read(self.path("ca.pem")).unwrap())
    }

    fn own(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let [certificate, key] = ["ours.pem", "ours.key"].map(|name| std::fs::read(self.path(name)).unwrap());
        Some((certificate, key))
    }

    /// A server that asks for certificates, also by TLS at this port.
    async fn redis(&self) -> (RedisServer, u16) {
        let port = free_port();
        let arguments = self.arguments(port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        (RedisServer::start_with(&arguments).await, port)
    }
}

async fn holds(place: RedisPlace, tls: RedisTls) -> Result<HoldOutcome, PurgatoryError> {
    let settings = RedisSettings {
        place,
        tls,
        ..settings("redis://unused")
    };
    let purgatory = Purgatory::connect(&settings, LIMITS).await?;
    let held = purgatory.hold(&hold(&state(&Keys::generate(), 1), LONG)).await?;
    let mut notifications = purgatory.notifications();
    let woken = tokio::time::timeout(RECOVERY, notifications.next()).await;
    assert!(woken.is_ok());
    Ok(held)
}

#[tokio::test]
async fn a_redis_behind_tls_is_used_by_who_trusts_it_and_is_trusted() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (_server, port) = certificates.redis().await;
    let place = || RedisPlace::Single(format!("rediss://127.0.0.1:{port}/"));
    let (authorities, own) = (certificates.authorities(), certificates.own());

    let tls = RedisTls {
        authorities: authorities.clone(),
        own: own.clone(),
    };
    assert_eq!(holds(place(), tls).await.unwrap(), HoldOutcome::Held);

    for (story, authorities, own) in [
        ("nobody trusts it", None, own.clone()),
        ("another is trusted", others.authorities(), own),
        ("without a certificate", authorities.clone(), None),
        ("with one that it does not trust", authorities, others.own()),
    ] {
        let refused = holds(place(), RedisTls { authorities, own }).await;
        assert!(matches!(refused, Err(PurgatoryError::Unavailable { .. })), "{story}");
    }
}

#[tokio::test]
async fn sentinels_behind_tls_name_a_master_behind_tls() {
    let certificates = Certificates::new();
    let (_server, master) = certificates.redis().await;
    let port = free_port();
    let folder = TempDir::new().unwrap();
    let configuration = folder.path().join("sentinel.conf");
    let text = format!("port 0\nbind 127.0.0.1\nsentinel monitor grasp 127.0.0.1 {master} 1\n");
    std::fs::write(&configuration, text).unwrap();
    let mut arguments = vec![configuration.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
    arguments.extend(certificates.arguments(port));
    let _sentinel = Process::start(&redis_program(), &arguments, &folder.path().join("sentinel.log"));
    let place = || RedisPlace::Sentinel {
        urls: vec![format!("rediss://127.0.0.1:{port}/")],
        master_name: "grasp".to_owned(),
    };
    let tls = || RedisTls {
        authorities: certificates.authorities(),
        own: certificates.own(),
    };

    tests::harness::wait::eventually("the sentinel names the master", async || {
        matches!(holds(place(), tls()).await, Ok(HoldOutcome::Held))
    })
    .await;
}
