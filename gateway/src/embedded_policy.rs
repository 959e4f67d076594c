//! The write policy of the built-in relay: the plugin's, in this process.

use nostr::event::Event;
use shared::write_policy::Answer;
use shared::write_policy::Policy;

use relay::Source;
use relay::Verdict;
use relay::WritePolicy;

/// Asks the policy directly.
pub(crate) struct InProcess(pub Policy);

impl WritePolicy for InProcess {
    async fn judge(&mut self, event: &Event, source: &Source) -> Verdict {
        match self.0.answer(event, &source.to_string()).await {
            Answer::Accept => Verdict::Accept,
            Answer::Hold(message) => Verdict::ShadowRefuse(message.to_owned()),
            Answer::Refuse(message) => Verdict::Refuse(message),
        }
    }
}
