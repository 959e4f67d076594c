//! A README as HTML, from untrusted Markdown: without its raw HTML, without images, with links to the web only. Pure.
//!
//! Tags are left out rather than sanitized: only what this file and `pulldown_cmark` write gets through, and a page may
//! load nothing anyway. The text between tags stays.

use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;

use pulldown_cmark::CodeBlockKind;
use pulldown_cmark::CowStr;
use pulldown_cmark::Event;
use pulldown_cmark::HeadingLevel;
use pulldown_cmark::LinkType;
use pulldown_cmark::Options;
use pulldown_cmark::Parser;
use pulldown_cmark::Tag;
use pulldown_cmark::TagEnd;
use pulldown_cmark::html::write_html_fmt;

use crate::http::pages::beginning;
use crate::http::pages::escape;
use crate::repositories::head_contents::Readme;

/// Returns as much of the README as HTML as fits into `bytes_max`, and whether that is all of it.
pub(super) fn readme_html(readme: &Readme, bytes_max: usize) -> (String, bool) {
    let (html, is_all) = match readme.is_markdown {
        true => markdown_html(&readme.text, bytes_max),
        false => {
            let shown = beginning(&readme.text, bytes_max.saturating_sub("<pre></pre>".len()));
            (format!("<pre>{}</pre>", escape(shown)), shown == readme.text)
        }
    };
    (html, is_all && readme.is_whole)
}

fn markdown_html(text: &str, bytes_max: usize) -> (String, bool) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let (html, is_cut) = (RefCell::default(), Cell::new(false));
    let events = Beginning {
        events: Parser::new_ext(text, options),
        open: Vec::new(),
        html: &html,
        bytes_max,
        is_cut: &is_cut,
    };
    write_html_fmt(Written(&html), events).expect("a string takes whatever is written");
    (html.into_inner(), !is_cut.get())
}

/// A document for as long as there is room for its output, followed by the ends of open elements: a line of a table can
/// expand to a hundred thousand cells, and a link to a long target that is written elsewhere.
struct Beginning<'t, 'h> {
    events: Parser<'t>,
    open: Vec<TagEnd>,
    /// The output of the events so far.
    html: &'h RefCell<String>,
    bytes_max: usize,
    is_cut: &'h Cell<bool>,
}

impl<'t> Iterator for Beginning<'t, '_> {
    type Item = Event<'t>;

    fn next(&mut self) -> Option<Event<'t>> {
        loop {
            let shown = match self.is_cut.get() {
                true => harmless(Event::End(self.open.pop()?)),
                false => {
                    let event = self.events.next()?;
                    self.take(event)
                }
            };
            if shown.is_some() {
                return shown;
            }
        }
    }
}

impl Beginning<'_, '_> {
    /// Returns the shown form of the next piece; if it was shortened, the document ends.
    fn take<'e>(&mut self, event: Event<'e>) -> Option<Event<'e>> {
        let room = self.bytes_max.saturating_sub(self.html.borrow().len() + ENDS_BYTES);
        let is_end = matches!(event, Event::End(_));
        let start = if let Event::Start(tag) = &event {
            Some(tag.to_end())
        } else {
            None
        };
        let (shown, is_all) = match start.is_some() && self.open.len() >= DEPTH_MAX {
            true => (None, false),
            false => harmless(event).map_or((None, true), |event| fitting(event, room)),
        };
        if is_all {
            self.open.extend(start);
            if is_end {
                self.open.pop();
            }
        }
        self.is_cut.set(!is_all);
        shown
    }
}

/// Returns what of a piece there is room for, and whether that is all of it.
fn fitting(event: Event<'_>, room: usize) -> (Option<Event<'_>>, bool) {
    if let Event::Text(text) = event {
        let (text, is_all) = start_of(text, room);
        return (Some(Event::Text(text)), is_all);
    }
    if let Event::Code(text) = event {
        let (text, is_all) = start_of(text, room);
        return (Some(Event::Code(text)), is_all);
    }
    let is_all = room > 0 && !matches!(&event, Event::InlineHtml(html) if html.len() > room);
    (is_all.then_some(event), is_all)
}

fn start_of(text: CowStr<'_>, room: usize) -> (CowStr<'_>, bool) {
    match beginning(&text, room).len() {
        all if all == text.len() => (text, true),
        end => (text[..end].to_owned().into(), false),
    }
}

/// Writes where others read how much there is.
struct Written<'h>(&'h RefCell<String>);

impl fmt::Write for Written<'_> {
    fn write_str(&mut self, html: &str) -> fmt::Result {
        self.0.borrow_mut().push_str(html);
        Ok(())
    }
}

/// Returns the shown form of one piece of a document.
fn harmless(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        // Below the headings of the page.
        Event::Start(Tag::Heading { level, .. }) => Some(Event::Start(Tag::Heading {
            level: lower(level),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        })),
        Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(lower(level)))),
        Event::Start(Tag::Link {
            link_type, dest_url, ..
        }) => Some(markup(link_start(link_type, &dest_url))),
        Event::End(TagEnd::Link) => Some(markup("</a>".to_owned())),
        // The words instead of an image are its content.
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        // The language of a block would be a class of the page's style.
        Event::Start(Tag::CodeBlock(_)) => Some(Event::Start(Tag::CodeBlock(CodeBlockKind::Indented))),
        Event::TaskListMarker(is_done) => Some(Event::Text(if is_done { "☑ " } else { "☐ " }.into())),
        Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => None,
        // Nothing of this is read, as it was not asked for.
        Event::InlineMath(_) | Event::DisplayMath(_) | Event::FootnoteReference(_) => None,
        Event::Start(_)
        | Event::End(_)
        | Event::Text(_)
        | Event::Code(_)
        | Event::SoftBreak
        | Event::HardBreak
        | Event::Rule => Some(event),
    }
}

/// Markup written by this file.
fn markup<'m>(html: String) -> Event<'m> {
    Event::InlineHtml(CowStr::from(html))
}

/// Returns the start of a link; one to anything but the web or a mailbox leads nowhere.
fn link_start(link_type: LinkType, target: &str) -> String {
    let target = match link_type == LinkType::Email {
        true => format!("mailto:{target}"),
        false => target.to_owned(),
    };
    let scheme = target.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https" | "mailto") => {
            format!("<a href=\"{}\" rel=\"nofollow noreferrer ugc\">", escape(&target))
        }
        _ => "<a>".to_owned(),
    }
}

fn lower(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

/// Kept for the ends of open elements, and for one piece that is not text.
const ENDS_BYTES: usize = (DEPTH_MAX + 4) * "</blockquote>\n\n".len();

/// Elements in elements: browsers give up on some hundreds.
const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const HTML_BYTES: usize = 16 * 1024;

    fn shown(text: &str) -> String {
        let readme = Readme {
            text: text.to_owned(),
            is_markdown: true,
            is_whole: true,
        };
        readme_html(&readme, HTML_BYTES).0
    }

    #[test]
    fn nothing_of_a_readme_is_run_or_loaded() {
        for hostile in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](java\tscript:alert(1))",
            "[x](&#106;avascript:alert(1))",
            "[x]( javascript:alert(1))",
            "[x](data:text/html,<script>alert(1)</script>)",
            "[x](vbscript:x) <javascript:alert(1)>",
            "![x](https://tracker.example/pixel.png)",
            "[![x](javascript:a)](javascript:b)",
            "[x][r]\n\n[r]: javascript:alert(1) \"' onclick='a\"",
            "[x](https://a.example/\"onmouseover=\"alert(1))",
            "```\"><script>\n</pre><script>alert(1)</script>\n```",
            "# x {#id onclick=alert(1)}",
            "<!-- --><svg onload=alert(1)>\n\n<style>*{display:none}</style>",
            "<iframe src=\"javascript:alert(1)\"></iframe>",
            "<a href='javascript:1'>x</a>",
            "| <b onclick=a> | b |\n|---|---|\n| <script> | [x](javascript:1) |",
            "\u{0}<scr\u{0}ipt>",
        ] {
            let html = shown(hostile);
            for tag in html.split('<').skip(1) {
                let tag = tag.split_once('>').unwrap().0;
                let is_bare = tag.chars().all(|c| c.is_ascii_alphanumeric() || "/ ".contains(c));
                let is_link = tag.starts_with("a href=\"https://a.example/&quot;");
                assert!(is_bare || is_link, "<{tag}> of {hostile}: {html}");
                let name = tag.trim_matches(['/', ' ']);
                assert!(
                    !["script", "img", "svg", "style", "iframe"].contains(&name),
                    "{hostile}: {html}"
                );
            }
        }
    }

    #[test]
    fn what_people_write_is_shown() {
        let html = shown(
            "# Title\n\nA *word* and a [link](https://example.com/?a=1&b=2), <me@example.com>, [local](a.md).\n\n\
             - [x] done\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nlet a = 1 < 2;\n```\n\n<b>bold</b> text\n",
        );

        for part in [
            "<h3>Title</h3>",
            "<em>word</em>",
            "<a href=\"https://example.com/?a=1&amp;b=2\" rel=\"nofollow noreferrer ugc\">link</a>",
            "<a href=\"mailto:me@example.com\"",
            "<a>local</a>",
            "☑ done",
            "<td>1</td>",
            "let a = 1 &lt; 2;",
            "bold text",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert!(!html.contains("class="), "{html}");
    }

    /// The beginning is shown, as far as it goes, also of a document that is one block, and nothing stays open.
    #[test]
    fn a_readme_has_a_bound_whatever_it_is_made_of() {
        let wide = "|a".repeat(1500) + "\n" + &"|-".repeat(1500) + "\n" + &"a\n".repeat(5000);
        let target = format!("[r]: https://a.example/{}\n\n{}", "x".repeat(4000), "[r] ".repeat(3000));
        for (text, is_markdown, part) in [
            ("word ".repeat(4000), true, "<p>word word"),
            ("a\n\n".repeat(8000), true, "<p>a</p>\n<p>a</p>"),
            ("> ".repeat(20_000), true, "<blockquote>"),
            ("1. ".repeat(20_000), true, "<li>"),
            (">".repeat(40) + "a", true, "<blockquote>"),
            ("[".repeat(20_000), true, "[[["),
            ("*_".repeat(20_000), true, "<em>_</em>"),
            ("`".repeat(19_999), true, "<pre>"),
            ("a `".to_owned() + &"b<".repeat(7000) + "`", true, "<code>b&lt;b"),
            ("|a".repeat(3000) + "\n" + &"|-".repeat(3000), true, "<th>a</th>"),
            (wide, true, "<td>a</td>"),
            (target, true, "xxx"),
            ("```\n".to_owned() + &"x <\n".repeat(9000), true, "x &lt;"),
            ("&#0;<".repeat(10_000), true, "&lt;"),
            ("'<é".repeat(10_000), false, "<pre>&#39;&lt;é"),
        ] {
            for bytes_max in [1000, HTML_BYTES] {
                let readme = Readme {
                    text: text[..text.floor_char_boundary(HTML_BYTES)].to_owned(),
                    is_markdown,
                    is_whole: text.len() <= HTML_BYTES,
                };

                let (html, is_whole) = readme_html(&readme, bytes_max);

                let story = format!("{:?}: {html}", &text[..20]);
                assert!(html.len() <= bytes_max, "{} {story}", html.len());
                assert!(!is_whole, "{story}");
                assert!(html.contains(part) || bytes_max < HTML_BYTES, "{story}");
                for tag in ["p", "blockquote", "li", "em", "code", "pre", "table", "tr", "td", "a"] {
                    let count = |end| html.matches(&format!("<{end}{tag}")).count();
                    let also = html.matches("<pre").count() * usize::from(tag == "p");
                    assert!(count("") - also == count("/") - also, "{tag} {story}");
                }
            }
        }
    }

    #[test]
    fn a_readme_that_is_no_markdown_is_text() {
        let readme = Readme {
            text: "<b>not bold</b>\n# no heading".to_owned(),
            is_markdown: false,
            is_whole: false,
        };

        let (html, is_whole) = readme_html(&readme, HTML_BYTES);

        assert_eq!(html, "<pre>&lt;b&gt;not bold&lt;/b&gt;\n# no heading</pre>");
        assert!(!is_whole);
    }
}
