//! The pages in a real browser: what stands in them, and that they can be read on every screen.
//!
//! Asserted on the document, not on pixels. With SCREENSHOTS=<directory> each page is also left there as a PNG in
//! Base64.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use tests::clients::browser::Browser;
use tests::clients::browser::View;
use tests::clients::http::request;
use tests::clients::nostr::now;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

/// An identifier that a URL cannot carry as it is, and that ends like a path.
const IDENTIFIER: &str = "my repo 🦀.git";

#[tokio::test(flavor = "multi_thread")]
async fn pages_can_be_read_on_every_screen() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let served = served(&world).await;
    let waiting = waiting(&world).await;
    let origin = format!("http://{}", world.authority());
    let mut looked_at = 0;
    for (name, heading, url) in [
        (
            "landing",
            "Git repositories over nostr".to_owned(),
            format!("{origin}/"),
        ),
        ("served", "Crab <i>tools</i>".to_owned(), world.url(&served)),
        ("waiting", waiting.identifier.clone(), world.url(&waiting)),
        (
            "not-found",
            "Not found".to_owned(),
            format!("{origin}/<script>alert(1)</script>"),
        ),
    ] {
        for width in [320, 1280] {
            for scheme in ["light", "dark"] {
                browser.open(&url, View { width, scheme }).await;

                let seen = browser.read(LEGIBILITY).await;
                let story = format!("{name} {width} {scheme}: {seen}");
                assert_eq!(seen["width"], width, "{story}");
                assert!(seen["scroll"].as_u64().unwrap() <= u64::from(width), "{story}");
                assert_eq!(seen["outside"], json!([]), "{story}");
                assert_eq!(seen["scripts"], 0, "{story}");
                assert_eq!(seen["headings"], json!([heading]), "{story}");
                // WCAG 2.1, 1.4.3.
                assert!(seen["contrast"].as_f64().unwrap() >= 4.5, "{story}");
                let dark = seen["background"].as_f64().unwrap() < 0.5;
                assert_eq!(dark, scheme == "dark", "{story}");
                assert_eq!(seen["shift"], 0, "{story}");
                assert!(seen["bytes"].as_u64().unwrap() <= BUDGET_BYTES, "{story}");
                leave_picture(&mut browser, &format!("{name}-{width}-{scheme}")).await;
                looked_at += 1;
            }
        }
    }
    assert_eq!(looked_at, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_repository_is_described() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let repository = served(&world).await;

    browser.open(&world.url(&repository), WIDE).await;

    assert_eq!(browser.read("document.title").await, "Crab <i>tools</i>");
    assert_eq!(text(&mut browser, "h1").await, json!(["Crab <i>tools</i>"]));
    assert_eq!(
        text(&mut browser, "p.description").await,
        json!(["Tools & toys.\nFor \"crabs\"."])
    );
    assert_eq!(text(&mut browser, ".notice").await, json!([]));
    let commands = text(&mut browser, ".copy").await;
    assert_eq!(commands[0], format!("git clone {}", world.url(&repository)));
    assert!(
        commands[1].as_str().unwrap().starts_with("git clone nostr://naddr1"),
        "{commands}"
    );
    let links = browser
        .read("[...document.querySelectorAll('main a')].map(a => a.href)")
        .await;
    let shown = links.as_array().unwrap().iter().any(|link| {
        link.as_str()
            .is_some_and(|link| link.starts_with("https://gitworkshop.dev/naddr1"))
    });
    assert!(shown, "{links}");
    let owner = format!("{} owner", repository.npub());
    assert!(
        text(&mut browser, "li")
            .await
            .as_array()
            .unwrap()
            .contains(&json!(owner))
    );
    let rows = text(&mut browser, "main > table td:first-child").await;
    let rows: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_str().unwrap())
        .collect();
    assert_eq!(rows[..3], ["main default", "a-branch", "v1.0"]);
    assert!(
        rows[3].starts_with("README.md\n") && rows[4].starts_with("one\n"),
        "{rows:?}"
    );
    let oids = browser
        .read("[...document.querySelectorAll('main > table code')].map(c => [c.innerText.length, c.title.length])")
        .await;
    assert_eq!(oids, json!([[8, 40], [8, 40], [8, 40], [8, 40], [8, 40]]));
    assert_eq!(text(&mut browser, "article h3").await, json!(["Tools"]));
    // One click, or one touch, selects the whole line.
    let selects = "[...document.querySelectorAll('.copy')].map(e => getComputedStyle(e).userSelect)";
    assert_eq!(browser.read(selects).await, json!(["all", "all"]));
    // No page waits until they are counted.
    let path = world.url(&repository);
    let path = path.split_once(&world.authority()).unwrap().1;
    eventually("what is open is counted", async || {
        let (_, page) = world.get(path, "").await;
        page.contains("0 open issues and 0 open pull requests")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readme_is_shown_and_does_nothing() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let ten_megabytes = "A line of a book.\n".repeat(600_000);
    let few_megabytes = format!("# Long\n\n{}", "A line of a book.\n\n".repeat(40_000));
    let deep = format!("# Deep\n\nA word.\n\n{}\n", "> ".repeat(50_000));
    for (name, readme, heading) in [
        ("hostile", HOSTILE_README, json!(["Hostile"])),
        ("ten-megabytes", &ten_megabytes, json!([])),
        ("few-megabytes", &few_megabytes, json!(["Long"])),
        ("deep", &deep, json!(["Deep"])),
    ] {
        let repository = served_with(&world, name, readme).await;

        browser.open(&world.url(&repository), WIDE).await;

        assert_eq!(text(&mut browser, "article h3").await, heading, "{name}");
        let seen = browser.read(HARM).await;
        assert_eq!(seen["elements"], json!([]), "{name}: {seen}");
        assert_eq!(seen["handlers"], json!([]), "{name}: {seen}");
        assert_eq!(seen["targets"], json!(["https://example.com/"]), "{name}: {seen}");
        assert_eq!(
            (&seen["loaded"], &seen["title"]),
            (&json!(0), &json!(name)),
            "{name}: {seen}"
        );
        let bytes = seen["bytes"].as_u64().unwrap();
        assert!(bytes <= BUDGET_BYTES, "{name}: {bytes}");
        leave_picture(&mut browser, &format!("readme-{name}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hosted_is_listed_and_found_by_keyboard() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let home = format!("http://{}/", world.authority());
    let served = served(&world).await;
    let _waiting = waiting(&world).await;
    let hostile = served_with(&world, "<img src=x onerror=alert(1)>", "x").await;

    browser.open(&home, WIDE).await;

    let links = browser
        .read("[...document.querySelectorAll('#repositories ~ ul a')].map(a => [a.innerText, a.href])")
        .await;
    // What waits for its first push is nothing that can be cloned.
    let expected = [&hostile, &served].map(|repository| [repository.identifier.clone(), world.url(repository)]);
    assert_eq!(links, json!(expected));
    let mut stops = Vec::new();
    for _ in 0..20 {
        browser.press(TAB).await;
        let focused = browser
            .read("(e => [e.id || e.innerText, e.getBoundingClientRect().top + scrollY])(document.activeElement)")
            .await;
        let is_field = focused[0] == "name";
        stops.push(focused);
        if is_field {
            break;
        }
    }
    let tops: Vec<f64> = stops.iter().map(|stop| stop[1].as_f64().unwrap()).collect();
    assert!(tops.is_sorted(), "{stops:?}");
    browser.type_text("REP").await;
    browser.press(ENTER).await;
    eventually("the repository is found", async || {
        let found = browser
            .attempt("document.querySelector('#repositories ~ ul')?.innerText + location.search")
            .await;
        let found = found.as_str().unwrap_or_default();
        found.contains(IDENTIFIER) && !found.contains("img") && found.ends_with("?name=REP")
    })
    .await;
    browser.open(&format!("{home}?name=nothing+%3Cb%3E&page=7"), WIDE).await;
    let status = text(&mut browser, "p[role=status]").await;
    assert_eq!(
        status,
        json!(["No repository has a name with a word that begins like this."])
    );
    assert_eq!(
        browser.read("document.getElementById('name').value").await,
        "nothing <b>"
    );
}

/// The names are read from disk at the start, page by page.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_repositories_are_listed_in_pages() {
    let mut world = World::start(Kind::Embedded, Options::default()).await;
    world.kill_gateway().await;
    let owner = Keys::generate().public_key().to_hex();
    for number in 0..10_000 {
        let name = format!("repository-{number:05}");
        let directory = world.repositories().join(&owner).join(format!("{name}.git"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("grasp-coordinate"), format!("30617:{owner}:{name}\n")).unwrap();
    }
    world.start_gateway().await;
    eventually("all are listed", async || {
        world.get("/", "").await.1.contains("10000 repositories.")
    })
    .await;

    for (query, first, of) in [
        ("?page=1", "repository-00000", "Page 1 of 500"),
        ("?page=500", "repository-09980", "Page 500 of 500"),
        ("?page=501", "repository-09980", "Page 500 of 500"),
        ("?name=repository-0123", "repository-01230", "10 repositories."),
        ("?name=07", "repository-07000", "1000 repositories."),
    ] {
        let (status, page) = world.get(&format!("/{query}"), "").await;

        assert_eq!(status, 200);
        let listed = page.split_once("<ul><li>").unwrap().1;
        assert!(
            listed.split_once("</li>").unwrap().0.contains(first),
            "{query}: {listed}"
        );
        assert!(page.contains(of), "{query}: {page}");
        assert!(page.len() as u64 <= BUDGET_BYTES, "{query}: {}", page.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_are_a_feed() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let repository = served(&world).await;

    browser.open(&world.url(&repository), WIDE).await;

    let named = "[document.querySelector('link[rel=alternate]').href, \
                 [...document.querySelectorAll('main a')].find(a => a.innerText === 'Feed of releases').href]";
    let named = browser.read(named).await;
    let url = format!("{}/releases.atom", world.url(&repository));
    assert_eq!(named, json!([url, url]));
    let path = url.split_once(&world.authority()).unwrap().1;
    let (status, feed) = world.get(path, "").await;
    assert_eq!(status, 200);
    let time = feed
        .split_once("<updated>")
        .unwrap()
        .1
        .split_once("</updated>")
        .unwrap()
        .0;
    for part in [
        "content-type: application/atom+xml; charset=utf-8",
        "<title>Releases of Crab &lt;i&gt;tools&lt;/i&gt;</title>",
        "<title>v1.0</title>",
        &format!("<link rel=\"self\" type=\"application/atom+xml\" href=\"{url}\"/>"),
        &format!("<updated>{time}</updated><link"),
    ] {
        assert!(feed.contains(part), "{part} in {feed}");
    }
    let tag = feed.split_once("etag: ").unwrap().1.split_once("\r\n").unwrap().0;
    assert_eq!(world.get(path, &format!("if-none-match: {tag}\r\n")).await.0, 304);
    // As a browser reads it, it is well-formed.
    browser.open(&url, WIDE).await;
    assert_eq!(browser.read("document.querySelector('parsererror')").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_pages_for_browsers_and_text_for_others() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let nowhere = format!("/{}/r.git", Repository::new("r").npub());
    for (path, status) in [("/nothing", 404), (nowhere.as_str(), 404), ("/x/y/z", 404)] {
        for (accept, content_type) in [
            ("accept: text/html,*/*;q=0.8\r\n", "content-type: text/html"),
            ("accept: */*\r\n", "content-type: text/plain"),
            ("", "content-type: text/plain"),
        ] {
            let (answered, answer) = world.get(path, accept).await;

            assert_eq!(answered, status, "{path} {accept}");
            assert!(answer.contains(content_type), "{path} {accept}: {answer}");
            assert!(answer.contains("vary: Accept"), "{path} {accept}: {answer}");
            assert!(
                answer.contains("access-control-allow-origin: *"),
                "{path} {accept}: {answer}"
            );
            let is_page = content_type.contains("html");
            assert_eq!(answer.contains("<h1>Not found</h1>"), is_page, "{answer}");
            assert_eq!(
                answer.contains("content-security-policy: default-src 'none'"),
                is_page,
                "{answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_repository_says_so() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let repository = waiting(&world).await;

    browser.open(&world.url(&repository), WIDE).await;

    let notice = text(&mut browser, ".notice[role=status]").await;
    let notice = notice[0].as_str().unwrap();
    assert!(
        notice.contains("not served yet") && notice.contains("minutes are left"),
        "{notice}"
    );
    assert_eq!(text(&mut browser, "table").await, json!([]));
    assert_eq!(text(&mut browser, "pre").await.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_there_leads_home() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut browser = Browser::start().await;
    let home = format!("http://{}/", world.authority());

    browser
        .open(&format!("{home}{}/r.git", Repository::new("r").npub()), WIDE)
        .await;

    assert_eq!(text(&mut browser, "h1").await, json!(["Not found"]));
    assert_eq!(browser.read("document.querySelector('header a').href").await, home);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_waits() {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        ..Options::default()
    };
    let world = World::start(Kind::Embedded, options).await;
    let mut browser = Browser::start().await;
    let admin = format!("http://{}", world.admin_authority().await);
    browser.open(&admin, WIDE).await;
    let repository = waiting(&world).await;
    let id = repository.identifier.clone();
    let unannounced = Repository::new("<b>elsewhere").state(now(), &[]);
    assert!(!world.nostr().await.send(&unannounced).await.taken);

    // Without anybody's doing.
    eventually("what waits is shown", async || {
        let shown = browser.attempt("document.querySelector('li').innerText").await;
        let shown = shown.as_str().unwrap_or_default();
        ["announcement held", &id[..20], "waits for a push", " left"]
            .iter()
            .all(|part| shown.contains(part))
    })
    .await;
    eventually("what was refused is shown", async || {
        let shown = browser.attempt("document.body.innerText").await;
        let shown = shown.as_str().unwrap_or_default();
        shown.contains("/<b>elsewhere: restricted: no announcement (kind 30617)")
    })
    .await;
    for (name, path) in [("admin", "/?still"), ("admin-event", "event")] {
        if path == "event" {
            browser.open(&format!("{admin}/?still"), WIDE).await;
        }
        let url = match path {
            "event" => browser.read("document.querySelector('li a').href + '?still'").await,
            path => json!(format!("{admin}{path}")),
        };
        for (width, scheme) in [(320, "light"), (1280, "dark")] {
            browser.open(url.as_str().unwrap(), View { width, scheme }).await;
            let seen = browser.read(LEGIBILITY).await;
            let story = format!("{name} {width} {scheme}: {seen}");
            assert!(seen["scroll"].as_u64().unwrap() <= u64::from(width), "{story}");
            assert_eq!((&seen["outside"], &seen["scripts"]), (&json!([]), &json!(0)), "{story}");
            assert!(seen["contrast"].as_f64().unwrap() >= 4.5, "{story}");
            leave_picture(&mut browser, &format!("{name}-{width}-{scheme}")).await;
        }
    }
    let described = text(&mut browser, "pre").await.to_string();
    assert!(
        described.contains("a state (kind 30618) by") && described.contains("purgatory release"),
        "{described}"
    );
    let said = async |browser: &mut Browser, button: &str, expected: &str| {
        let click = format!("[...document.querySelectorAll('button')].find(b => b.textContent === '{button}').click()");
        browser.read(&click).await;
        eventually("the answer is shown", async || {
            let shown = browser
                .attempt("document.querySelector('pre[role=status]')?.innerText")
                .await;
            shown.as_str().is_some_and(|shown| shown.contains(expected))
        })
        .await;
    };
    let event = browser.read("location.href").await;
    said(&mut browser, "Release", "it still waits").await;
    browser.open(event.as_str().unwrap(), WIDE).await;
    said(&mut browser, "Drop", "dropped").await;
    browser.open(event.as_str().unwrap(), WIDE).await;
    assert_eq!(text(&mut browser, "h1").await, json!(["Not found"]));
}

/// A page of somebody else's makes its visitor's browser send what it likes, and reads nothing of the answers.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_page_of_an_event_drops_it() {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        ..Options::default()
    };
    let world = World::start(Kind::Embedded, options).await;
    let admin = world.admin_authority().await;
    let repository = Repository::new("r");
    let announcement = world.announcement(&repository, now(), &[]);
    assert!(world.nostr().await.send(&announcement).await.taken);
    let path = format!("/events/{}", announcement.id);
    let page = request(&admin, &format!("GET {path} HTTP/1.1\r\n"), b"").await.text();
    let token = page.split_once("name=\"token\" value=\"").unwrap().1;
    let token = format!("token={}", token.split_once('"').unwrap().0);
    let drop = async |origin: &str, body: &str| {
        let head = format!(
            "POST {path}/drop HTTP/1.1\r\n{origin}content-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n",
            body.len()
        );
        request(&admin, &head, body.as_bytes()).await.status
    };
    let own = format!("origin: http://{admin}\r\n");

    for (origin, body, status) in [
        (own.as_str(), "", 403),
        (own.as_str(), "token=", 403),
        (own.as_str(), &"token=0".repeat(9), 403),
        (own.as_str(), &"x".repeat(5000), 413),
        ("origin: http://evil.example\r\n", token.as_str(), 403),
        ("origin: null\r\n", token.as_str(), 403),
    ] {
        assert_eq!(drop(origin, body).await, status, "{origin} {body}");
    }
    let still = request(&admin, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
    assert_eq!(still.status, 200);
    assert_eq!(drop(&own, &token).await, 200);
    assert_eq!(drop(&own, &token).await, 404);
}

/// A repository with one file.
async fn served_with(world: &World, identifier: &str, readme: &str) -> Repository {
    let repository = Repository::new(identifier);
    let mut nostr = world.nostr().await;
    let git = world.git(&format!("work-{}", repository.npub())).await;
    let commit = git.commit_file("README.md", readme.as_bytes()).await;
    nostr.send(&world.announcement(&repository, now(), &[])).await;
    nostr
        .send(&repository.state(now(), &[("refs/heads/main", &commit)]))
        .await;
    git.push(&world.url(&repository), &["main"]).await.expect_ok();
    repository
}

/// A repository with everything that a page can show.
async fn served(world: &World) -> Repository {
    let repository = Repository::new(IDENTIFIER);
    let mut nostr = world.nostr().await;
    let git = world.git(&format!("work-{}", repository.npub())).await;
    git.commit("one").await;
    let commit = git.commit_file("README.md", README.as_bytes()).await;
    let invited = Keys::generate().public_key().to_hex();
    let described = [
        tag(&["name", "Crab <i>tools</i>"]),
        tag(&["description", "Tools & toys.\nFor \"crabs\"."]),
        tag(&["maintainers", &invited]),
    ];
    nostr.send(&world.announcement(&repository, now(), &described)).await;
    let refs = [
        ("refs/heads/a-branch", &*commit),
        ("refs/heads/main", &*commit),
        ("refs/tags/v1.0", &*commit),
    ];
    nostr.send(&repository.state(now(), &refs)).await;
    let refspecs = ["main", "main:a-branch", "main:refs/tags/v1.0"];
    git.push(&world.url(&repository), &refspecs).await.expect_ok();
    repository
}

/// A repository with nothing to break its lines at.
async fn waiting(world: &World) -> Repository {
    let repository = Repository::new(&"identifier".repeat(18));
    let described = [tag(&["description", &"description".repeat(30)])];
    let mut nostr = world.nostr().await;
    let answer = nostr.send(&world.announcement(&repository, now(), &described)).await;
    assert!(answer.taken, "{}", answer.message);
    repository
}

/// Returns the texts of the elements that a selector finds, as a person sees them.
async fn text(browser: &mut Browser, selector: &str) -> Value {
    let expression = format!(
        "[...document.querySelectorAll({})].map(e => e.innerText)",
        json!(selector)
    );
    browser.read(&expression).await
}

async fn leave_picture(browser: &mut Browser, name: &str) {
    let Some(directory) = std::env::var_os("SCREENSHOTS") else {
        return;
    };
    let picture = browser.screenshot().await;
    std::fs::write(
        std::path::Path::new(&directory).join(format!("{name}.png.base64")),
        picture,
    )
    .unwrap();
}

const WIDE: View = View {
    width: 1280,
    scheme: "light",
};

/// Of a page.
const BUDGET_BYTES: u64 = 30_000;

const TAB: (&str, u32) = ("Tab", 9);
const ENTER: (&str, u32) = ("Enter", 13);

/// What people write.
const README: &str = r#"# Tools

For [crabs](https://example.com/).

- [x] one
- two

| a | b |
|---|---|
| 1 | 2 |

```sh
a-long-command --with-many-options --and-more-options --and-a-file /a/long/path/to/a/file
```

> A quote.

<p align="center"><b>bold</b></p>
"#;

/// What somebody else may write.
const HOSTILE_README: &str = "# Hostile\n\n<script>document.title = 'hacked'</script>\n\n\
    <img src=\"https://example.com/pixel.png\" onerror=\"document.title = 'hacked'\">\n\n\
    a <svg onload=\"document.title = 'hacked'\"> b ![pixel](https://example.com/pixel.png)\n\n\
    [a](javascript:document.title='hacked') [b](JAVASCRIPT:alert(1)) [c](data:text/html,x) <javascript:alert(1)>\n\n\
    <iframe src=\"/\"></iframe>\n\n<style>body { display: none }</style>\n\n\
    <meta http-equiv=\"refresh\" content=\"0;url=https://example.com/\">\n\n\
    <form action=\"https://example.com/\"><button>x</button></form>\n\n</article></main></body></html>\n\n\
    [good](https://example.com/)\n";

/// What a page has that it must not, and what it has loaded.
const HARM: &str = r"(() => {
    const all = [...document.querySelectorAll('main *')];
    const active = 'script,img,svg,iframe,style,meta,form,object,embed';
    return {
        elements: all.filter(e => e.matches(active)).map(e => e.outerHTML),
        handlers: all.filter(e => e.getAttributeNames().some(n => n.startsWith('on'))).map(e => e.outerHTML),
        targets: [...document.querySelectorAll('article a[href]')].map(a => a.href).concat('https://example.com/')
            .filter((href, place, all) => all.indexOf(href) === place),
        loaded: performance.getEntriesByType('resource').length,
        title: document.title,
        bytes: performance.getEntriesByType('navigation')[0].decodedBodySize,
    };
})()";

/// What can be measured of a page: sizes, what stands out to the right, and the least contrast of a text (WCAG 2.1,
/// relative luminance).
const LEGIBILITY: &str = r"(() => {
    const numbers = color => color.match(/[\d.]+/g).map(Number);
    const luminance = color => {
        const linear = numbers(color).slice(0, 3).map(c => c / 255)
            .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = element => {
        const color = getComputedStyle(element).backgroundColor;
        return numbers(color)[3] === 0 && element.parentElement ? ground(element.parentElement) : color;
    };
    const contrast = element => {
        const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => b - a);
        return (a + 0.05) / (b + 0.05);
    };
    const texts = [...document.body.querySelectorAll('*')]
        .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    return {
        width: innerWidth,
        scroll: document.documentElement.scrollWidth,
        outside: texts.filter(element => element.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML),
        scripts: document.scripts.length,
        bytes: performance.getEntriesByType('navigation')[0].decodedBodySize,
        shift: performance.getEntriesByType('layout-shift').length,
        headings: [...document.querySelectorAll('h1')].map(e => e.innerText),
        contrast: Math.min(...texts.map(contrast)),
        background: luminance(ground(document.body)),
    };
})()";
