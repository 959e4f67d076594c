//! Real git clients against fetch and push, over the least HTTP that they need. No policy: whatever is pushed is taken.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Output;
use std::sync::Arc;

use crate::fetch::advertised::Advertised;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::server::UploadPack;
use crate::fetch::testing::readable;
use crate::git::command::Git;
use crate::repositories::Repositories;
use crate::repositories::layout::Layout;
use crate::repositories::pack::IngestLimits;
use crate::repositories::received::Received;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use bytes::Buf;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::stream;
use nostr::event::EventId;
use shared::git::PushCommand;
use shared::rules::Alignment;
use shared::rules::Commanded;
use shared::rules::Verdict;
use tempfile::TempDir;
use tokio_util::io::StreamReader;
use warp::Filter;
use warp::reply::Reply;
use warp::reply::Response;
use wire::command_list::CommandListLimits;
use wire::command_list::CommandListParser;
use wire::path::GitService;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;
use wire::report::Report;
use wire::report::ReportWriter;

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>;

#[derive(Clone)]
struct Server {
    repositories: RepositoryStore,
    upload_pack: UploadPack,
}

impl Server {
    async fn start(git: PathBuf, data_dir: &Path) -> (Self, String) {
        let git = Git::at(git, data_dir).await.unwrap();
        let layout = Layout::new(data_dir).unwrap();
        let repositories = RepositoryStore::open(git, layout, 1000).await.unwrap();
        let server = Self {
            upload_pack: UploadPack::new(repositories.clone(), UploadPackLimits::DEFAULT),
            repositories,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = server.clone();
        let query = warp::query::raw().or(warp::any().map(String::new)).unify();
        let routes = warp::path::full()
            .and(query)
            .and(warp::header::optional("git-protocol"))
            .and(warp::body::stream())
            .and_then(
                move |path: warp::path::FullPath, query, protocol: Option<String>, body| {
                    let this = this.clone();
                    let protocol = protocol.as_deref().and_then(GitProtocol::parse);
                    let body: Chunks = Box::pin(chunks(body));
                    async move { Ok::<_, Infallible>(this.answer(path.as_str(), query, protocol, body).await) }
                },
            );
        tokio::spawn(warp::serve(routes).incoming(listener).run());
        (server, url)
    }

    fn repository(&self, name: &str) -> Repository {
        let coordinate = format!("30617:{}:{name}", "11".repeat(32));
        self.repositories.at(&coordinate.parse().unwrap())
    }

    async fn answer(&self, path: &str, query: String, protocol: Option<GitProtocol>, body: Chunks) -> Response {
        let (name, service) = path[1..].split_once(".git/").unwrap();
        let repository = self.repository(name);
        let refs = repository.cached_refs().await.unwrap();
        let version = protocol.as_ref().map_or(ProtocolVersion::V0, GitProtocol::version);
        let is_here = refs.is_some();
        let shown = refs.unwrap_or_else(|| Arc::new(RefSnapshot::empty()));
        let shown = Advertised::new(shown);
        let (kind, answer) = match (service, query.as_str()) {
            ("info/refs", "service=git-upload-pack") => {
                let advertised = shown.info_refs(GitService::UploadPack, version);
                ("upload-pack-advertisement", advertised.bytes())
            }
            ("info/refs", "service=git-receive-pack") => {
                let advertised = shown.info_refs(GitService::ReceivePack, version);
                ("receive-pack-advertisement", advertised.bytes())
            }
            ("git-receive-pack", "") => ("receive-pack-result", receive(repository, body).await),
            ("git-upload-pack", "") => {
                let path = match is_here {
                    true => repository.path().to_owned(),
                    false => self.repositories.layout().empty_repository(),
                };
                let answer = self
                    .upload_pack
                    .fetch(
                        readable(&path, &shown),
                        Ipv4Addr::LOCALHOST.into(),
                        protocol,
                        StreamReader::new(body),
                    )
                    .await
                    .unwrap();
                let kind = "application/x-git-upload-pack-result";
                let answer = warp::reply::stream(answer.into_stream());
                return warp::reply::with_header(answer, "content-type", kind).into_response();
            }
            other => panic!("{other:?}"),
        };
        let kind = format!("application/x-git-{kind}");
        warp::reply::with_header(answer.to_vec(), "content-type", kind).into_response()
    }
}

fn chunks(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    body.map(|chunk| {
        chunk
            .map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))
            .map_err(io::Error::other)
    })
}

async fn receive(repository: Repository, mut body: Chunks) -> Bytes {
    let mut parser = CommandListParser::new(CommandListLimits::default());
    let (list, rest) = loop {
        let chunk = body.next().await.unwrap().unwrap();
        if let Some((list, rest)) = parser.push(&chunk).unwrap() {
            break (list, rest);
        }
    };
    if list.commands.is_empty() {
        return Bytes::new();
    }
    let repositories = Repositories::new(repository.store().clone(), IngestLimits::default());
    let coordinate = repository.coordinate();
    let locked = repositories.lock(&[coordinate.clone()].into()).await.unwrap();
    let target = locked.repository(coordinate).unwrap();
    if list.expects_pack {
        let mut spool = repositories.spool();
        let mut pack = stream::iter([Ok(rest)]).chain(body);
        while let Some(chunk) = pack.next().await {
            spool.push(&chunk.unwrap()).await.unwrap();
        }
        let quarantine = repositories
            .ingest(coordinate, spool, None, &repositories.limits())
            .await
            .unwrap();
        let tips = list
            .commands
            .iter()
            .filter_map(|command| command.update.as_ref().unwrap().new);
        let tips: std::collections::BTreeSet<_> = tips.collect();
        let sorted_for = (tips.clone(), std::collections::BTreeSet::new());
        let received = Received::sort(quarantine, None, tips.clone(), sorted_for, &repositories.limits()).await;
        let received = received.unwrap();
        target.take_in(received, &tips, None).await.unwrap();
    }
    let updates: Vec<_> = list
        .commands
        .iter()
        .map(|command| command.update.clone().unwrap())
        .collect();
    let head = updates
        .iter()
        .find(|update| update.new.is_some())
        .map(|update| update.name.clone());
    let alignment = Alignment {
        coordinate: coordinate.clone(),
        state_id: EventId::from_byte_array([0; 32]),
        parts: [].into(),
        copies: [].into(),
        updates,
        head,
    };
    target.align(&alignment).await.unwrap();
    let done = |command: PushCommand| Commanded {
        name: command.name,
        verdict: Verdict::InPlace,
    };
    let report = Report {
        unpack_error: None,
        commands: list.commands.into_iter().map(done).collect(),
    };
    let writer = ReportWriter::new(&list.capabilities);
    [
        writer.remote_text("well done"),
        writer.remote_text("still at it"),
        writer.finish(&report),
    ]
    .concat()
    .into()
}

/// Runs a git client that knows nothing of this machine's configuration.
#[expect(clippy::disallowed_methods, reason = "the client under test is git itself")]
async fn client(git: &Path, dir: &Path, args: &[&str]) -> Output {
    tokio::process::Command::new(git)
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .env_remove("http_proxy")
        .output()
        .await
        .unwrap()
}

async fn git(program: &Path, dir: &Path, args: &[&str]) -> String {
    let output = client(program, dir, args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &said
}

/// Every git on `PATH`: the versions that this machine has.
fn gits() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let dirs = std::env::split_paths(&path).map(|dir| dir.join("git"));
    let mut gits: Vec<_> = dirs
        .filter(|git| git.is_file())
        .map(|git| git.canonicalize().unwrap())
        .collect();
    gits.sort();
    gits.dedup();
    gits
}

/// More than git sends without chunks, and nothing that compresses.
fn noise() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..300_000).flat_map(|_| next().to_le_bytes()).collect()
}

/// Clones without history, and without files and directories.
async fn clone_parts(client_git: &Path, dir: &Path, protocol: &str, url: &str) {
    let clone = async |args: &[&str], name: &str| {
        let args = [&["-c", protocol, "clone", "-q"], args, &[url, name]].concat();
        client(client_git, dir, &args).await.status
    };
    let [shallow, filtered, refused] = ["shallow", "filtered", "refused"].map(|name| format!("{name} {protocol}"));
    assert!(clone(&["--depth=1", "--filter=blob:none"], &shallow).await.success());

    // Two filters come as one, a `combine:`.
    let two_filters = ["--bare", "--filter=blob:none", "--filter=tree:0"];
    assert!(clone(&two_filters, &filtered).await.success());
    let list = ["rev-list", "--objects", "--missing=print", "master"];
    let listed = git(client_git, &dir.join(filtered), &list).await;
    let missing = listed.lines().filter(|line| line.starts_with('?'));
    assert_eq!(missing.count(), 2, "the directories of two commits: {listed}");

    // What is not allowed does not come in with what is.
    let sparse = ["--bare", "--filter=combine:blob:none+sparse:oid=master:file"];
    assert!(!clone(&sparse, &refused).await.success());
}

async fn round_trip(server_git: &Path, client_git: &Path) {
    let dir = TempDir::new().unwrap();
    let (server, url) = Server::start(server_git.to_owned(), &dir.path().join("data")).await;
    let url = format!("{url}/my%20repo.git");
    let repository = server.repository("my%20repo");
    for version in ["0", "1", "2"] {
        let (protocol, clone) = (format!("protocol.version={version}"), format!("empty{version}"));
        let said = git(client_git, dir.path(), &["-c", &protocol, "clone", &url, &clone]).await;
        assert!(said.contains("empty repository"), "{said}");
        assert!(!repository.exists().await.unwrap());
    }

    let work = dir.path().join("empty2");
    assert_eq!(
        std::fs::read_to_string(work.join(".git/HEAD")).unwrap(),
        "ref: refs/heads/master\n"
    );
    // More than http.postBuffer: a probe first, then chunks.
    std::fs::write(work.join("file"), noise()).unwrap();
    git(client_git, &work, &["add", "."]).await;
    git(client_git, &work, &["commit", "-qm", "one"]).await;
    git(client_git, &work, &["tag", "-am", "t", "v1"]).await;
    let said = git(client_git, &work, &["push", "origin", "master", "v1"]).await;
    assert!(
        said.contains("remote: well done") && said.contains("[new branch]"),
        "{said}"
    );

    for version in ["0", "1", "2"] {
        let (protocol, clone) = (format!("protocol.version={version}"), format!("full{version}"));
        git(client_git, dir.path(), &["-c", &protocol, "clone", "-q", &url, &clone]).await;
        let clone = dir.path().join(clone);
        assert_eq!(std::fs::read(clone.join("file")).unwrap(), noise());
        git(client_git, &clone, &["rev-parse", "v1^{commit}"]).await;
    }

    std::fs::write(work.join("small"), "x").unwrap();
    git(client_git, &work, &["add", "."]).await;
    git(client_git, &work, &["commit", "-qm", "two"]).await;
    git(
        client_git,
        &work,
        &["push", "origin", "master", "master:refs/heads/other", ":v1"],
    )
    .await;
    for version in ["0", "2"] {
        let (protocol, clone) = (
            format!("protocol.version={version}"),
            dir.path().join(format!("full{version}")),
        );
        git(client_git, &clone, &["-c", &protocol, "pull", "-q"]).await;
        assert!(clone.join("small").exists());
        clone_parts(client_git, dir.path(), &protocol, &url).await;
    }
    let refs = repository.refs().await.unwrap().unwrap();
    let names: Vec<_> = refs.refs.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["refs/heads/master", "refs/heads/other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_git_clones_pushes_and_pulls_with_every_git_behind() {
    let gits = gits();
    let mut pairs = 0;
    for server_git in &gits {
        for client_git in &gits {
            round_trip(server_git, client_git).await;
            pairs += 1;
        }
    }
    assert!(pairs > 0);
}
