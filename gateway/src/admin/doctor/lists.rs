//! Whether the lines of the operator's lists match anybody known here.

use std::time::Duration;

use shared::options::access_files::AccessPaths;
use tokio::time::Instant;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::admin::facts_source::loader_of;
use crate::admin::unmatched_lines::LinesCheck;
use crate::admin::unmatched_lines::UnmatchedLines;

pub(super) async fn matched(server: &CheckedServer<'_>) -> Vec<Observation> {
    let options = server.options;
    if options.rules.lists == AccessPaths::default() {
        return Vec::new();
    }
    let loader = match &server.behind {
        Some(loader) => loader.clone(),
        // Lists and addresses were read before.
        None => match loader_of(options).await {
            Ok(loader) => loader,
            Err(_) => return Vec::new(),
        },
    };
    let check = LinesCheck::new(&loader, &options.data_dir);
    let until = Instant::now() + TIME_MAX;
    match check.run(&options.rules.lists, Duration::ZERO, Some(until)).await {
        Ok(found) if found.checked == 0 => Vec::new(),
        Ok(found) => vec![judge(&found)],
        // The relay or Redis is away, which another check names.
        Err(_) => Vec::new(),
    }
}

fn judge(found: &UnmatchedLines) -> Observation {
    let mut text = match found.count {
        0 => format!("{} lines, and each matches somebody known here", found.checked),
        _ => format!("{} nobody known here: {}", found.counted(), found.shown()),
    };
    if found.left > 0 {
        text.push_str(&format!("; there was no time for {} more lines", found.left));
    }
    match found.count {
        0 => Observation::well(text),
        _ => Observation::note(
            text,
            "correct the key or the name in that file, which is read again by itself; leave it if it is meant for \
             somebody who is still to come",
        ),
    }
}

/// For all lines.
const TIME_MAX: Duration = Duration::from_secs(15);
