//! The refs of a repository with the answers that were made of them: one is made when it is asked for first, and is the
//! same until the refs change.

use std::sync::Arc;
use std::sync::OnceLock;

use bitcoin_hashes::HashEngine;
use bitcoin_hashes::sha256;
use bytes::Bytes;
use parking_lot::Mutex;
use shared::git::Oid;
use shared::git::RefName;

use crate::fetch::advertise;
use crate::fetch::advertise::Advertisement;
use crate::fetch::ls_refs::LsRefs;
use crate::fetch::ref_answer::RefAnswer;
use crate::http::tagged::TaggedBody;
use crate::repositories::refs::RefSnapshot;
use wire::path::GitService;
use wire::protocol::ProtocolVersion;

pub(crate) enum Offer {
    /// The same as others.
    Kept(TaggedBody),
    /// What hardly anybody asks for.
    Made(RefAnswer),
}

#[cfg(test)]
impl Offer {
    /// Returns all of a short one, or of one that is kept.
    pub(super) fn bytes(self) -> Bytes {
        match self {
            Self::Kept(body) => body.bytes,
            Self::Made(answer) => answer.made().expect("it is short").clone(),
        }
    }
}

pub(crate) struct Advertised {
    refs: Arc<RefSnapshot>,
    refs_bytes: u64,
    /// Version 0, which clients that push get too.
    upload_pack: OnceLock<TaggedBody>,
    receive_pack: OnceLock<TaggedBody>,
    ls_refs: Mutex<Vec<(LsRefs, Bytes)>>,
    /// What each ref that clients see points at, sorted.
    tips: OnceLock<Vec<Oid>>,
    tags: OnceLock<sha256::Hash>,
}

impl Advertised {
    pub(crate) fn new(refs: Arc<RefSnapshot>) -> Self {
        Self {
            refs_bytes: bytes_of(&refs),
            refs,
            upload_pack: OnceLock::new(),
            receive_pack: OnceLock::new(),
            ls_refs: Mutex::default(),
            tips: OnceLock::new(),
            tags: OnceLock::new(),
        }
    }

    pub(crate) fn refs(&self) -> &Arc<RefSnapshot> {
        &self.refs
    }

    pub(crate) fn info_refs(&self, service: GitService, version: ProtocolVersion) -> Offer {
        let refs = &self.refs;
        let tagged = |advertisement| TaggedBody::new(RefAnswer::whole(refs, advertisement));
        match (service, version) {
            (GitService::UploadPack, ProtocolVersion::V0) => {
                let made = || tagged(Advertisement::to_fetch(version, refs));
                Offer::Kept(self.upload_pack.get_or_init(made).clone())
            }
            // The same for every repository.
            (GitService::UploadPack, ProtocolVersion::V2) => {
                let made = || TaggedBody::new(advertise::capabilities());
                Offer::Kept(CAPABILITIES.get_or_init(made).clone())
            }
            // No client of today speaks version 1.
            (GitService::UploadPack, ProtocolVersion::V1) => {
                Offer::Made(RefAnswer::begin(refs, Advertisement::to_fetch(version, refs)))
            }
            (GitService::ReceivePack, ProtocolVersion::V1) => self.to_push(version, Vec::new()),
            (GitService::ReceivePack, ProtocolVersion::V0 | ProtocolVersion::V2) => {
                let made = || tagged(Advertisement::to_push(version, Vec::new()));
                Offer::Kept(self.receive_pack.get_or_init(made).clone())
            }
        }
    }

    /// Returns the advertisement for a push that need not bring these objects either.
    pub(crate) fn to_push(&self, version: ProtocolVersion, haves: Vec<Oid>) -> Offer {
        Offer::Made(RefAnswer::begin(&self.refs, Advertisement::to_push(version, haves)))
    }

    pub(crate) fn ls_refs(&self, request: LsRefs) -> RefAnswer {
        let request = request.about(&self.refs);
        let latest = || self.ls_refs.lock();
        // The latest is the last.
        let again = |latest: &mut Vec<(LsRefs, Bytes)>| {
            let place = latest.iter().position(|(known, _)| *known == request)?;
            let kept = latest.remove(place);
            let answer = kept.1.clone();
            latest.push(kept);
            Some(RefAnswer::from(answer))
        };
        if let Some(answer) = again(&mut latest()) {
            return answer;
        }
        let answer = match request.is_usual() {
            true => RefAnswer::from(RefAnswer::whole(&self.refs, request.clone())),
            false => RefAnswer::begin(&self.refs, request.clone()),
        };
        let Some(whole) = answer
            .made()
            .filter(|_| request.prefix_bytes() <= PREFIX_BYTES_KEPT_MAX)
        else {
            return answer;
        };
        let mut latest = latest();
        if let Some(answer) = again(&mut latest) {
            return answer;
        }
        if latest.len() == LS_REFS_KEPT_MAX {
            // What git usually asks for stays: it may be long, and is made for all.
            let oldest = latest.iter().position(|(known, _)| !known.is_usual());
            latest.remove(oldest.unwrap_or(0));
        }
        latest.push((request, whole.clone()));
        answer
    }

    pub(super) fn is_tip(&self, oid: &Oid) -> bool {
        let tips = self.tips.get_or_init(|| {
            let mut tips: Vec<Oid> = self.refs.refs.values().copied().collect();
            tips.sort_unstable();
            tips
        });
        tips.binary_search(oid).is_ok()
    }

    pub(super) fn tags(&self) -> sha256::Hash {
        *self.tags.get_or_init(|| tags_of(&self.refs))
    }

    pub(crate) fn bytes(&self) -> u64 {
        let whole =
            [&self.upload_pack, &self.receive_pack].map(|answer| answer.get().map_or(0, |made| made.bytes.len()));
        let latest = self.ls_refs.lock();
        let latest = latest
            .iter()
            .map(|(request, answer)| request.prefix_bytes() + answer.len());
        self.refs_bytes + (whole.into_iter().chain(latest).sum::<usize>() as u64)
    }
}

/// Returns how many bytes refs take, with what each points at once more, sorted.
fn bytes_of(refs: &RefSnapshot) -> u64 {
    let names = refs.refs.keys().chain(refs.peeled.keys());
    let of_names: usize = names.map(|name| REF_BYTES + name.as_str().len()).sum();
    (ADVERTISED_BYTES + of_names) as u64
}

/// Returns a name of all tags as they are.
pub(super) fn tags_of(refs: &RefSnapshot) -> sha256::Hash {
    let mut engine = sha256::HashEngine::new();
    let is_tag = |name: &RefName| name.as_str().starts_with("refs/tags/");
    for (name, oid) in refs.refs.iter().filter(|(name, _)| is_tag(name)) {
        engine.input(name.as_str().as_bytes());
        // No name has this byte.
        engine.input(b"\0");
        engine.input(oid.as_bytes());
    }
    engine.finalize()
}

/// The capabilities for clients that fetch by version 2.
static CAPABILITIES: OnceLock<TaggedBody> = OnceLock::new();

/// Answers to `ls-refs` kept: those that git usually asks for, and another.
const LS_REFS_KEPT_MAX: usize = 4;

/// Of the prefixes in a request whose answer is kept. A clone names 3, a fetch of one branch 6.
const PREFIX_BYTES_KEPT_MAX: usize = 1024;

/// A ref in a map, without its name, and once more among the tips.
const REF_BYTES: usize = 84;

/// What no ref adds to.
const ADVERTISED_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::cache::bytes_each_max;
    use crate::fetch::reader::CACHE_BYTES_MAX;
    use crate::repositories::testing::imported_refs;

    /// A client that asked for several lists alternately had each made again, as a whole.
    #[test]
    fn no_request_replaces_what_git_usually_asks_for() {
        let advertised = Advertised::new(Arc::new(imported_refs(10)));
        let usual = || LsRefs::usual().map(|request| advertised.ls_refs(request).made().unwrap().as_ptr());
        let before = usual();

        for number in 0..9 {
            drop(advertised.ls_refs(LsRefs::of_prefix(&format!("refs/heads/{number}"))));
        }

        assert_eq!(usual(), before);
    }

    #[test]
    fn a_hundred_thousand_refs_are_kept_with_every_answer_that_was_made() {
        let advertised = Advertised::new(Arc::new(imported_refs(100_000)));
        let before = advertised.bytes();
        let info_refs = |service| advertised.info_refs(service, ProtocolVersion::V0).bytes();
        let ls_refs = |request| advertised.ls_refs(request).made().unwrap().clone();
        let answers = || {
            let services = [GitService::UploadPack, GitService::ReceivePack];
            let answers = services.into_iter().map(info_refs);
            answers.chain(LsRefs::usual().map(ls_refs)).collect::<Vec<Bytes>>()
        };

        let made = answers();

        let prefixes = LsRefs::usual().map(|request| request.prefix_bytes());
        let len = made.iter().map(Bytes::len).chain(prefixes).sum::<usize>();
        assert_eq!(advertised.bytes(), before + len as u64);
        assert!(advertised.bytes() <= bytes_each_max(CACHE_BYTES_MAX));
        let places = |answers: Vec<Bytes>| answers.iter().map(|answer| answer.as_ptr()).collect::<Vec<_>>();
        assert_eq!(places(answers()), places(made));
    }
}
