//! The write policy of the built-in relay: the plugin's, in this process.

use nostr::event::Event;
use shared::policy::Answer;
use shared::policy::Policy;

use crate::embedded::Source;
use crate::embedded::Verdict;
use crate::embedded::WritePolicy;

/// Asks the policy directly.
pub struct InProcess(pub Policy);

impl WritePolicy for InProcess {
    async fn judge(&mut self, event: &Event, source: &Source) -> Verdict {
        match self.0.answer(event, &source.to_string()).await {
            Answer::Accept => Verdict::Accept,
            Answer::Hold(message) => Verdict::ShadowRefuse(message.to_owned()),
            Answer::Refuse(message) => Verdict::Refuse(message),
        }
    }
}
