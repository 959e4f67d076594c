//! A README as HTML, of what anybody may have written: Markdown without its raw HTML, without images, with links to
//! the web only. Pure.
//!
//! Tags are left out rather than sanitized: what is let through is what this file and `pulldown_cmark` write, and a
//! page may load nothing anyway. The text between tags stays.

use std::mem::take;

use pulldown_cmark::CodeBlockKind;
use pulldown_cmark::CowStr;
use pulldown_cmark::Event;
use pulldown_cmark::HeadingLevel;
use pulldown_cmark::LinkType;
use pulldown_cmark::Options;
use pulldown_cmark::Parser;
use pulldown_cmark::Tag;
use pulldown_cmark::TagEnd;
use pulldown_cmark::html::push_html;

use crate::http::pages::escape;
use crate::repositories::head_contents::Readme;

/// Returns the README as HTML, and whether that is all of it.
pub(super) fn readme_html(readme: &Readme) -> (String, bool) {
    let text = &readme.text[..end_of_lines(&readme.text)];
    let is_whole = readme.is_whole && text.len() == readme.text.len();
    match readme.is_markdown {
        true => {
            let (html, is_all) = markdown_html(text);
            (html, is_whole && is_all)
        }
        false => {
            let mut shown = text;
            while escape(shown).len() > HTML_BYTES_MAX {
                shown = &shown[..shown.floor_char_boundary(shown.len() / 2)];
            }
            (format!("<pre>{}</pre>", escape(shown)), is_whole && shown == text)
        }
    }
}

/// Returns where the last whole line ends that is shown.
fn end_of_lines(text: &str) -> usize {
    if text.len() <= TEXT_BYTES_MAX {
        return text.len();
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text[..end].rfind('\n').unwrap_or(end)
}

/// Renders block by block, until there is no room for the next one.
fn markdown_html(text: &str) -> (String, bool) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let (mut html, mut block) = (String::new(), Vec::new());
    let (mut depth, mut deepest) = (0_usize, 0);
    for event in Parser::new_ext(text, options) {
        if matches!(event, Event::Start(_)) {
            depth += 1;
        } else if matches!(event, Event::End(_)) {
            depth = depth.saturating_sub(1);
        }
        deepest = deepest.max(depth);
        block.extend(harmless(event));
        if depth > 0 {
            continue;
        }
        let mut rendered = String::new();
        if deepest <= DEPTH_MAX {
            push_html(&mut rendered, take(&mut block).into_iter());
        }
        if deepest > DEPTH_MAX || html.len() + rendered.len() > HTML_BYTES_MAX {
            return (html, false);
        }
        html.push_str(&rendered);
        deepest = 0;
    }
    (html, true)
}

/// Returns what is shown of one piece of a document.
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

/// What this file writes.
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

/// Of the text of a README. Most are shorter, and the page has a budget of 30 KB in all.
const TEXT_BYTES_MAX: usize = 14 * 1024;

/// Of what is shown of it: quotes in quotes make much of little.
const HTML_BYTES_MAX: usize = 16 * 1024;

/// Elements in elements: browsers give up on some hundreds.
const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let readme = Readme {
            text: text.to_owned(),
            is_markdown: true,
            is_whole: true,
        };
        readme_html(&readme).0
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

    #[test]
    fn a_readme_has_a_bound_whatever_it_is_made_of() {
        for (text, is_shown) in [
            ("word ".repeat(2_000_000), true),
            ("a\n\n".repeat(100_000), true),
            ("> ".repeat(100_000), false),
            ("- ".repeat(100_000), false),
            (">".repeat(40) + "a", false),
            ("[".repeat(100_000), true),
            ("*_".repeat(100_000), false),
            ("`".repeat(99_999), true),
            ("|a".repeat(50_000) + "\n" + &"|-".repeat(50_000), true),
            ("&#0;<".repeat(10_000), true),
        ] {
            let readme = Readme {
                text: text.clone(),
                is_markdown: true,
                is_whole: true,
            };

            let (html, is_whole) = readme_html(&readme);

            let story = &text[..20];
            assert!(html.len() <= HTML_BYTES_MAX, "{story}");
            assert!(!is_whole, "{story}");
            assert!(!is_shown || !html.is_empty() || text.starts_with('&'), "{story}");
        }
    }

    #[test]
    fn a_readme_that_is_no_markdown_is_text() {
        let readme = Readme {
            text: "<b>not bold</b>\n# no heading".to_owned(),
            is_markdown: false,
            is_whole: false,
        };

        let (html, is_whole) = readme_html(&readme);

        assert_eq!(html, "<pre>&lt;b&gt;not bold&lt;/b&gt;\n# no heading</pre>");
        assert!(!is_whole);
    }
}
