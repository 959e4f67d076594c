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
    let commands = text(&mut browser, "pre").await;
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
    let rows = text(&mut browser, "tr td:first-child").await;
    assert_eq!(rows, json!(["main default", "a-branch", "v1.0"]));
    let oids = browser
        .read("[...document.querySelectorAll('td code')].map(c => [c.innerText.length, c.title.length])")
        .await;
    assert_eq!(oids, json!([[8, 40], [8, 40], [8, 40]]));
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
        shown.contains("/<b>elsewhere: restricted: no announcement here")
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
}

/// A repository with everything that a page can show.
async fn served(world: &World) -> Repository {
    let repository = Repository::new(IDENTIFIER);
    let mut nostr = world.nostr().await;
    let git = world.git(&format!("work-{}", repository.npub())).await;
    let commit = git.commit("one").await;
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
        headings: [...document.querySelectorAll('h1')].map(e => e.innerText),
        contrast: Math.min(...texts.map(contrast)),
        background: luminance(ground(document.body)),
    };
})()";
