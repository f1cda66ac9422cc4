//! The program as a page: the window on a canvas, its engine a task beside it.
//!
//! What the page and this have to do with one another stands in `wasm/index.html`.

mod places;

use places::Places;
use secateur::app::{self, App, Link, Setup, open_store, system_clock};
use secateur::gpu::adapters_async;
use secateur::origin::lock;
use secateur::session::{Handle, on_the_page};
use secateur::{Error, Result};
use std::cell::RefCell;
use std::time::Duration;
use wasm_bindgen::prelude::*;
use web_sys::{HtmlCanvasElement, UrlSearchParams};

thread_local! {
    static RUNNER: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// The window, once it is there.
struct Running {
    runner: eframe::WebRunner,
    context: eframe::egui::Context,
}

/// What the window shows, as JSON; `null` before there is one. For tests, and for the curious in the browser's console.
#[wasm_bindgen]
pub fn report() -> String {
    let shown = RUNNER.with_borrow(|running| {
        let app = running.as_ref()?.runner.app_mut::<App>()?;
        Some(app::report(app.state()))
    });
    shown.unwrap_or_default().to_string()
}

/// Where the parts of the window lie on the canvas, as JSON. The first call begins to listen: the next frames tell.
#[wasm_bindgen]
pub fn places() -> String {
    let list = RUNNER.with_borrow(|running| {
        let context = &running.as_ref()?.context;
        context.add_plugin(Places::default());
        context.request_repaint();
        context.with_plugin(|places: &mut Places| places.list())
    });
    list.unwrap_or_default().to_string()
}

#[wasm_bindgen]
extern "C" {
    /// Shows what ended the program in place of it; of `wasm/start.js`.
    #[wasm_bindgen(js_namespace = secateurPage)]
    fn failed(reason: &str);
}

/// Starts the window; what fails on the way, or later for good, is shown by the page.
pub fn main() {
    std::panic::set_hook(Box::new(|panic| failed(&panic.to_string())));
    wasm_bindgen_futures::spawn_local(async {
        if let Err(error) = start().await {
            failed(&error.as_string().unwrap_or_else(|| format!("{error:?}")));
        }
    });
}

async fn start() -> Result<(), JsValue> {
    let text = |error: Error| JsValue::from(error.to_string());
    let window = web_sys::window().ok_or("there is no page")?;
    let document = window.document().ok_or("there is no page")?;
    let canvas = document.get_element_by_id("secateur").ok_or("the page has no canvas")?;
    let canvas: HtmlCanvasElement = canvas.dyn_into()?;
    let link = link(&window.location().hash()?);
    let setup = Setup {
        store: store().await,
        path: "chats.sqlite".into(),
        model: None,
        device: None,
        context: None,
        catalogue: on_the_page().await.map_err(text)?,
        link: link.as_ref().cloned().unwrap_or_default(),
        clock: system_clock,
    };
    // Drawn without a GPU, a frame takes as long as some tokens, and from the same processor.
    let pause = match adapters_async().await.first() {
        Some(adapter) if adapter.kind == "Cpu" => Duration::from_millis(400),
        _ => Duration::ZERO,
    };
    let seen = std::rc::Rc::new(std::cell::OnceCell::new());
    let shows = seen.clone();
    let begin = move |creation: &eframe::CreationContext<'_>| {
        let context = creation.egui_ctx.clone();
        // There is one window.
        let _ = shows.set(context.clone());
        let engine = Handle::start(move || context.request_repaint_after(pause))?;
        if let Some(graphics) = &creation.wgpu_render_state {
            graphics.device.set_device_lost_callback(when_lost());
        }
        let mut app = App::new(&creation.egui_ctx, setup, Box::new(engine));
        if let Err(error) = link {
            app.complain(&error);
        }
        Ok(Box::new(app) as Box<dyn eframe::App>)
    };
    let runner = eframe::WebRunner::new();
    runner.start(canvas, eframe::WebOptions::default(), Box::new(begin)).await?;
    let context = seen.get().cloned().ok_or("the window did not begin")?;
    RUNNER.set(Some(Running { runner, context }));
    if let Some(loading) = document.get_element_by_id("loading") {
        loading.remove();
    }
    Ok(())
}

/// Begins the page anew when the device that draws it is lost, as after a crash of its driver: conversations are kept, and the model
/// loads again. A page that has only begun would do so for ever.
fn when_lost() -> impl Fn(eframe::wgpu::DeviceLostReason, String) + Send + 'static {
    const LONG_ENOUGH: Duration = Duration::from_secs(20);
    let begun = web_time::Instant::now();
    move |reason, message| match reason {
        eframe::wgpu::DeviceLostReason::Destroyed => {}
        _ if begun.elapsed() < LONG_ENOUGH => failed(&format!("the graphics device was lost ({message})")),
        _ => app::reload(),
    }
}

/// The conversations, where no other tab has them.
async fn store() -> Result<secateur::chat::Store> {
    match lock::take("secateur conversations").await {
        // Held as long as the page lives.
        Ok(Some(lock)) => std::mem::forget(lock),
        Ok(None) => {
            return Err(Error::Setting(
                "the conversations are open in another tab: use that one, or close it and try again".into(),
            ));
        }
        // Of a browser that has no locks nothing is known of other tabs.
        Err(_) => {}
    }
    open_store().await
}

/// What stands behind the page's address, as in `#model=smollm2-135m&ratio=0.4`.
fn link(hash: &str) -> Result<Link> {
    let parts = UrlSearchParams::new_with_str(hash.trim_start_matches('#'));
    let parts = parts.map_err(|_| Error::Setting("the link is not understood".into()))?;
    let text = |value: JsValue| value.as_string().unwrap_or_default();
    Link::new(js_sys::Array::from(&parts).to_vec().into_iter().map(|pair| {
        let pair = js_sys::Array::from(&pair);
        (text(pair.get(0)), text(pair.get(1)))
    }))
}
