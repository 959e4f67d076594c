//! The head of a push.

use shared::git::PushCommand;
use shared::git::RefUpdate;
use wire::command_list::CommandList;
use wire::command_list::CommandListError;
use wire::command_list::CommandListLimits;
use wire::command_list::CommandListParser;

/// Small, so that they are reached.
const LIMITS: CommandListLimits = CommandListLimits {
    commands_max: 16,
    bytes_max: 4096,
    pull_requests_max: 2,
};

/// Reads a command list in one piece and in pieces of the length that the first byte says. Both say the same, and what
/// they let through can be done to a repository.
pub fn command_list(data: &[u8]) {
    let Some((piece, request)) = data.split_first() else {
        return;
    };
    let whole = parse([request]);
    let pieces = parse(request.chunks(usize::from(*piece).max(1)));
    assert_eq!(whole, pieces, "in pieces of {piece}");
    if let Ok(Some((list, rest))) = whole {
        assert!(request.ends_with(&rest));
        assert!(request.len() - rest.len() <= LIMITS.bytes_max);
        check(&list);
    }
}

/// Returns the list and all that stands behind it.
fn parse<'d>(pieces: impl IntoIterator<Item = &'d [u8]>) -> Result<Option<(CommandList, Vec<u8>)>, CommandListError> {
    let mut parser = CommandListParser::new(LIMITS);
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        if let Some((list, rest)) = parser.push(piece)? {
            let behind = pieces.flatten().copied();
            return Ok(Some((list, rest.iter().copied().chain(behind).collect())));
        }
    }
    Ok(None)
}

fn check(list: &CommandList) {
    assert!(list.commands.len() <= LIMITS.commands_max);
    let well_formed = list.commands.iter().filter_map(|command| command.update.as_ref().ok());
    let of_pull_requests = well_formed.filter(|update| update.name.pull_request_id().is_some());
    assert!(of_pull_requests.count() <= LIMITS.pull_requests_max);
    let well_formed = |command: &PushCommand| command.update.clone().ok();
    let updates: Vec<RefUpdate> = list.commands.iter().filter_map(well_formed).collect();
    for (i, update) in updates.iter().enumerate() {
        assert_eq!(update.name.as_str().parse().as_ref(), Ok(&update.name));
        for other in &updates[..i] {
            assert_ne!(update.name, other.name);
            let both_made = update.new.is_some() && other.new.is_some();
            assert!(
                !(both_made && update.name.conflicts_with(&other.name)),
                "{update:?} {other:?}"
            );
        }
    }
    for command in &list.commands {
        if let Ok(update) = &command.update {
            assert_eq!(update.name.as_str(), command.name);
        }
    }
}
