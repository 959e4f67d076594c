//! `grasp-gateway declare`: signs a repository's announcement and state and sends them to a relay. Enough to try a
//! server with nothing but git; users of nostr have `ngit`.

use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::nips::nip19::ToBech32;
use shared::git::Oid;
use shared::git::RefName;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::options::values::Expected;
use shared::relay_client::PublishOutcome;
use tokio::time::sleep;
use tokio::time::timeout;
use url::Url;
use wire::path::repository_path;

use crate::command_error::CommandError;
use crate::outside::connect;
use crate::outside_relay::OutsideRelay;

/// The options of `declare`.
#[derive(Debug, Args)]
pub(crate) struct DeclareOptions {
    /// The relay of the GRASP server; its clone URLs have the same host and port.
    #[arg(long, value_name = "ws[s]://HOST[:PORT]", default_value = "ws://127.0.0.1:7334", value_parser = relay_url)]
    relay_url: Url,
    /// The secret key to sign with (nsec or hex). A new one is made if the file does not exist.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The identifier of the repository.
    #[arg(long, value_name = "TEXT")]
    identifier: Identifier,
    /// A branch or tag and its object, as `refs/heads/main=<oid>`; once for each ref [default: none].
    #[arg(long = "ref", value_name = "REF=OID", value_parser = declared_ref)]
    refs: Vec<(RefName, Oid)>,
    /// The branch that is checked out by default [default: none].
    #[arg(long, value_name = "REF")]
    head: Option<RefName>,
}

impl DeclareOptions {
    /// Declares the repository; returns its clone URL.
    ///
    /// # Errors
    /// The key file cannot be used, or the relay does not take the events.
    pub(crate) async fn run(self) -> Result<String, CommandError> {
        let keys = keys(&self.key_file)?;
        let coordinate = Coordinate {
            owner: keys.public_key(),
            identifier: self.identifier,
        };
        let identifier = coordinate.identifier.as_str().to_owned();
        let relay_url = self.relay_url.as_str().trim_end_matches('/').to_owned();
        let origin = relay_url.replacen("ws", "http", 1);
        let mut relay = open(&origin).await?;
        let clone_url = format!("{origin}{}", repository_path(&coordinate));
        let announcement = [
            ["d".to_owned(), identifier.clone()],
            ["name".to_owned(), identifier.clone()],
            ["clone".to_owned(), clone_url.clone()],
            ["relays".to_owned(), relay_url],
        ];
        send(&mut relay, &keys, nip34::ANNOUNCEMENT, announcement).await?;
        let refs = self.refs.iter().map(|(name, oid)| [name.to_string(), oid.to_string()]);
        let head = self.head.map(|head| ["HEAD".to_owned(), format!("ref: {head}")]);
        let state = iter::once(["d".to_owned(), identifier]).chain(refs).chain(head);
        send(&mut relay, &keys, nip34::STATE, state).await?;
        Ok(clone_url)
    }
}

fn relay_url(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| ["ws", "wss"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| Expected::new("a URL such as ws://127.0.0.1:7334 or wss://git.example.com".to_owned()))
}

async fn open(origin: &str) -> Result<OutsideRelay, CommandError> {
    let origin = Url::parse(origin).map_err(CommandError::because(NOT_REACHED))?;
    let (connection, _) = connect(&origin).await.map_err(CommandError::because(NOT_REACHED))?;
    let relay = OutsideRelay::open(&origin, connection).await;
    relay.map_err(CommandError::because(NOT_REACHED))
}

fn declared_ref(text: &str) -> Result<(RefName, Oid), Box<dyn Error + Send + Sync>> {
    let (name, oid) = text
        .split_once('=')
        .ok_or("it must have the form refs/heads/main=<oid>")?;
    Ok((name.parse()?, oid.parse()?))
}

fn keys(path: &Path) -> Result<Keys, CommandError> {
    let shown = path.display();
    let unusable = format!("cannot use the key file {shown}");
    match std::fs::read_to_string(path) {
        Ok(text) => Keys::parse(text.trim())
            .map_err(|_| CommandError::new(format!("the key file {shown} holds no secret key (nsec or hex)"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = Keys::generate();
            let Ok(nsec) = keys.secret_key().to_bech32();
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| writeln!(file, "{nsec}"))
                .map_err(CommandError::because(unusable))?;
            Ok(keys)
        }
        Err(error) => Err(CommandError::because(unusable)(error)),
    }
}

/// Signs an event and publishes it.
async fn send(
    relay: &mut OutsideRelay,
    keys: &Keys,
    kind: u16,
    tags: impl IntoIterator<Item = [String; 2]>,
) -> Result<(), CommandError> {
    let tags: Vec<Tag> = tags
        .into_iter()
        .map(|[name, value]| Tag::custom(name, [value]))
        .collect();
    let builder = EventBuilder::new(Kind::from_u16(kind), "").tags(tags);
    let mut outcome = publish(relay, keys, builder.clone()).await?;
    if matches!(outcome, PublishOutcome::Replaced) {
        // Of two events of one second the smaller id wins: it may be the one of a declaration just before.
        sleep(Duration::from_secs(1)).await;
        outcome = publish(relay, keys, builder).await?;
    }
    let answer = match outcome {
        PublishOutcome::Stored | PublishOutcome::Duplicate | PublishOutcome::Held(_) => return Ok(()),
        PublishOutcome::Replaced => "it has a newer one".to_owned(),
        PublishOutcome::Deleted => "its author has deleted it".to_owned(),
        PublishOutcome::Expired => "it has expired".to_owned(),
        PublishOutcome::Busy(answer) | PublishOutcome::Refused(answer) => answer,
    };
    Err(CommandError::new(format!(
        "the relay did not accept the event of kind {kind}: {answer}"
    )))
}

/// Signs an event of now, and returns what the relay makes of it.
async fn publish(relay: &mut OutsideRelay, keys: &Keys, builder: EventBuilder) -> Result<PublishOutcome, CommandError> {
    let event = builder.finalize(keys).map_err(CommandError::because("cannot sign"))?;
    let answer = timeout(RELAY_TIMEOUT, relay.publish(&event))
        .await
        .map_err(CommandError::because("the relay does not answer"))?;
    let answer = answer.map_err(CommandError::because(NOT_REACHED))?;
    let (accepted, message) =
        answer.ok_or_else(|| CommandError::new("the relay ended the connection without an answer"))?;
    Ok(PublishOutcome::of(accepted, &message))
}

const NOT_REACHED: &str = "cannot reach the relay that --relay-url names; does the server run?";

/// For the relay's answer.
const RELAY_TIMEOUT: Duration = Duration::from_secs(10);
