//! The tags of an event by their names, and how many an event may have.

use nostr::event::Event;

/// Most tags of an event (`events.maxNumTags` of `strfry-config/strfry.conf`): states of as many refs are accepted.
pub const TAGS_MAX: usize = 5_000;
/// Most elements of all tags of an event together. A ref of a state has at most four: its name, its commit and, as some
/// clients write, two commits before it.
pub const TAG_ELEMENTS_MAX: usize = 4 * TAGS_MAX;

/// Returns the values of every tag called `name`, without the name.
pub fn tags<'e>(event: &'e Event, name: &str) -> impl Iterator<Item = &'e [String]> {
    event.tags.iter().filter_map(move |tag| {
        let (head, values) = tag.as_slice().split_first()?;
        (head == name).then_some(values)
    })
}

/// Returns the first value of every tag called `name` that has one.
pub fn tag_values<'e>(event: &'e Event, name: &str) -> impl Iterator<Item = &'e str> {
    tags(event, name).filter_map(|values| values.first().map(String::as_str))
}

/// Returns the values of the first tag called `name`, without the name.
pub fn first_tag<'e>(event: &'e Event, name: &str) -> Option<&'e [String]> {
    tags(event, name).next()
}

/// Returns the first value of the first tag called `name`; empty if there is none.
pub fn first_value<'e>(event: &'e Event, name: &str) -> &'e str {
    first_tag(event, name)
        .and_then(|values| values.first())
        .map_or("", String::as_str)
}

/// Returns about how many bytes of memory an event takes. Tags of few characters each take many times their text.
pub fn memory_bytes(event: &Event) -> usize {
    let tags = event.tags.iter().map(|tag| tag_memory_bytes(tag.as_slice()));
    EVENT_MEMORY_BYTES + event.content.len() + tags.sum::<usize>()
}

/// Returns the same of one tag.
pub fn tag_memory_bytes(tag: &[String]) -> usize {
    let elements = tag.iter().map(|text| text.len() + TEXT_MEMORY_BYTES);
    TAG_MEMORY_BYTES + elements.sum::<usize>()
}

/// An event without its content and its tags.
const EVENT_MEMORY_BYTES: usize = 512;

/// A tag without its elements: a vector and its allocation.
const TAG_MEMORY_BYTES: usize = 48;

/// An element of a tag without its characters: a string and its allocation.
const TEXT_MEMORY_BYTES: usize = 40;

/// Returns about how many bytes an event has as text: its content and its tags in JSON, but for what is escaped.
pub fn text_bytes(event: &Event) -> usize {
    let elements = event.tags.iter().flat_map(|tag| tag.as_slice());
    // Each with its quotes and a comma.
    event.content.len() + elements.map(|element| element.len() + 3).sum::<usize>()
}
