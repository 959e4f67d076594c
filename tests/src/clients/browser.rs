//! A real browser without a window: Chromium, spoken to by its DevTools protocol.
//!
//! Unlike `--window-size` and `--force-dark-mode` the protocol sets widths below 500 pixels and the colour scheme that
//! pages ask for, and it reads the document under the page's own security policy, which lets no script run.

use std::path::Path;

use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::process::Process;
use crate::harness::wait::eventually;

/// A browser with one page.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    last_id: u64,
    // In this order: the profile is deleted when nobody writes to it.
    _chromium: Process,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Width of the window, in CSS pixels.
    pub width: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

impl Browser {
    /// Starts `chromium`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            // Its sandbox needs rights that containers do not give; the pages are our own.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            &format!("--user-data-dir={}", profile.path().display()),
            "about:blank",
        ]
        .map(str::to_owned);
        let log = profile.path().join("chromium.log");
        let mut chromium = Process::start(Path::new("chromium"), &arguments, &log);
        let port_file = profile.path().join("DevToolsActivePort");
        let mut address = String::new();
        eventually("Chromium listens", async || {
            assert!(chromium.is_running(), "Chromium has ended:\n{}", chromium.output());
            // Two lines, a port and a path.
            let file = std::fs::read_to_string(&port_file).unwrap_or_default();
            address = file.trim_end().replace('\n', "");
            file.lines().count() == 2
        })
        .await;
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{address}"))
            .await
            .unwrap();
        let mut browser = Self {
            socket,
            session: String::new(),
            last_id: 0,
            _chromium: chromium,
            _profile: profile,
        };
        let target = browser
            .command("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.command("Page.enable", json!({})).await;
        browser
    }

    /// Opens a page and waits until it is complete.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn open(&mut self, url: &str, view: View) {
        let metrics = json!({"width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": true});
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": view.scheme}]});
        self.command("Emulation.setEmulatedMedia", scheme).await;
        let opened = self.command("Page.navigate", json!({"url": url})).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        while self.read("document.readyState").await != "complete" {}
    }

    /// Returns the value of a JavaScript expression in the page.
    ///
    /// # Panics
    /// It has none that JSON can say.
    pub async fn read(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true});
        let answer = self.command("Runtime.evaluate", evaluate).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Returns what the promise of a JavaScript expression comes to in the page.
    ///
    /// # Panics
    /// It is rejected, or JSON cannot say it.
    pub async fn call(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.command("Runtime.evaluate", evaluate).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Returns the value of a JavaScript expression in the page, or nothing while another page takes its place.
    pub async fn attempt(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.answer("Runtime.evaluate", evaluate).await;
        answer["result"]["result"]["value"].take()
    }

    /// Presses a key, as a person does who has no mouse.
    ///
    /// # Panics
    /// The browser is gone.
    pub async fn press(&mut self, (key, code): (&str, u32)) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if key == "Enter" {
                event["text"] = json!("\r");
            }
            self.command("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types a text where the keyboard is.
    ///
    /// # Panics
    /// The browser is gone.
    pub async fn type_text(&mut self, text: &str) {
        self.command("Input.insertText", json!({"text": text})).await;
    }

    /// Returns the whole page as a PNG in Base64.
    ///
    /// # Panics
    /// It cannot be drawn.
    pub async fn screenshot(&mut self) -> String {
        let capture = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.command("Page.captureScreenshot", capture).await;
        answer["data"].as_str().unwrap().to_owned()
    }

    async fn command(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    async fn answer(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.last_id {
                return answer;
            }
        }
    }
}
