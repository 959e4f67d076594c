//! `grasp-gateway declare`: signs a repository's announcement and state and sends them to a relay. Enough to try a
//! server with nothing but git; users of nostr have `ngit`.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::nips::nip19::ToBech32;
use shared::git::Oid;
use shared::git::OidError;
use shared::git::RefName;
use shared::git::RefNameError;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::relay_client::PublishOutcome;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayUrl;

use wire::path::repository_path;

/// The options of `declare`.
#[derive(Debug, Args)]
pub(crate) struct DeclareOptions {
    /// The relay of the GRASP server; its clone URLs have the same host and port.
    #[arg(long, value_name = "ws://HOST:PORT", default_value = "ws://127.0.0.1:7334")]
    relay_url: RelayUrl,
    /// The secret key to sign with (nsec or hex). A new one is made if the file does not exist.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// What the repository is called.
    #[arg(long, value_name = "TEXT")]
    identifier: Identifier,
    /// A branch or tag and the object that it names, as `refs/heads/main=<oid>`; once for each ref [default: none].
    #[arg(long = "ref", value_name = "REF=OID", value_parser = declared_ref)]
    refs: Vec<(RefName, Oid)>,
    /// The branch that is checked out by default [default: none].
    #[arg(long, value_name = "REF")]
    head: Option<RefName>,
}

/// Why nothing was declared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeclareError {
    /// The key file cannot be read or made.
    #[error("cannot use the key file {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("the key file {} holds no secret key (nsec or hex)", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The event cannot be signed.
    #[error("cannot sign: {0}")]
    Sign(String),
    /// The relay refused the event.
    #[error("the relay did not accept the event of kind {kind}: {answer}")]
    NotTaken {
        /// The event's kind.
        kind: u16,
        /// What the relay answered.
        answer: String,
    },
}

/// Why a text declares no ref.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeclaredRefError {
    /// It has no `=`.
    #[error("it must have the form refs/heads/main=<oid>")]
    Form,
    /// What stands before it is no ref name.
    #[error(transparent)]
    Name(#[from] RefNameError),
    /// What stands behind it is no object id.
    #[error(transparent)]
    Oid(#[from] OidError),
}

impl DeclareOptions {
    /// Declares the repository; returns its clone URL.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub(crate) async fn run(self) -> Result<String, DeclareError> {
        let keys = keys(&self.key_file)?;
        let relay = RelayClient::new(self.relay_url.clone(), RELAY_TIMEOUT);
        let coordinate = Coordinate {
            owner: keys.public_key(),
            identifier: self.identifier.clone(),
        };
        let relay_url = self.relay_url.as_str().trim_end_matches('/');
        let origin = relay_url.replacen("ws", "http", 1);
        let clone_url = format!("{origin}{}", repository_path(&coordinate));
        let d = ["d", self.identifier.as_str()];
        let announcement = [
            &d[..],
            &["name", self.identifier.as_str()],
            &["clone", &clone_url],
            &["relays", relay_url],
        ];
        send(&relay, &sign(&keys, nip34::ANNOUNCEMENT, &announcement)?).await?;
        let refs: Vec<[String; 2]> = self
            .refs
            .iter()
            .map(|(name, oid)| [name.to_string(), oid.to_string()])
            .collect();
        let head = self.head.map(|head| ["HEAD".to_owned(), format!("ref: {head}")]);
        let refs: Vec<[&str; 2]> = refs
            .iter()
            .chain(&head)
            .map(|[name, value]| [name.as_str(), value.as_str()])
            .collect();
        let state: Vec<&[&str]> = std::iter::once(&d[..])
            .chain(refs.iter().map(<[&str; 2]>::as_slice))
            .collect();
        send(&relay, &sign(&keys, nip34::STATE, &state)?).await?;
        Ok(clone_url)
    }
}

fn declared_ref(text: &str) -> Result<(RefName, Oid), DeclaredRefError> {
    let (name, oid) = text.split_once('=').ok_or(DeclaredRefError::Form)?;
    Ok((name.parse()?, oid.parse()?))
}

fn keys(path: &Path) -> Result<Keys, DeclareError> {
    let failed = |source| DeclareError::KeyFile {
        path: path.to_owned(),
        source,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Keys::parse(text.trim()).map_err(|_| DeclareError::Key { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = Keys::generate();
            let Ok(nsec) = keys.secret_key().to_bech32();
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| writeln!(file, "{nsec}")).map_err(failed)?;
            Ok(keys)
        }
        Err(error) => Err(failed(error)),
    }
}

fn sign(keys: &Keys, kind: u16, tags: &[&[&str]]) -> Result<Event, DeclareError> {
    let tags: Result<Vec<Tag>, _> = tags.iter().map(|tag| Tag::parse(tag.iter().copied())).collect();
    let tags = tags.map_err(|error| DeclareError::Sign(error.to_string()))?;
    let builder = EventBuilder::new(Kind::from_u16(kind), "").tags(tags);
    builder
        .finalize(keys)
        .map_err(|error| DeclareError::Sign(error.to_string()))
}

async fn send(relay: &RelayClient, event: &Event) -> Result<(), DeclareError> {
    let not_taken = |answer: &str| DeclareError::NotTaken {
        kind: event.kind.as_u16(),
        answer: answer.to_owned(),
    };
    match relay.publish(event).await {
        PublishOutcome::Stored | PublishOutcome::Duplicate | PublishOutcome::Held(_) => Ok(()),
        PublishOutcome::Replaced => Err(not_taken("it has a newer one")),
        PublishOutcome::Deleted => Err(not_taken("its author has deleted it")),
        PublishOutcome::Expired => Err(not_taken("it has expired")),
        PublishOutcome::Busy(answer) | PublishOutcome::Refused(answer) => Err(not_taken(&answer)),
    }
}

/// For the relay's answer.
const RELAY_TIMEOUT: Duration = Duration::from_secs(10);
