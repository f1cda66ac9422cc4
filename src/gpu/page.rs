//! What a browser says of its adapter beside what wgpu passes on.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};

/// Vendor and architecture of the adapter that a page gets, such as "nvidia ampere", as far as the browser tells.
pub(super) async fn adapter_name() -> String {
    let words = words().await.unwrap_or_default();
    if words.is_empty() { "the browser's GPU".into() } else { words }
}

async fn words() -> Result<String, JsValue> {
    let get = |of: &JsValue, name: &str| Reflect::get(of, &name.into());
    let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into()?;
    let adapter: Promise = request.call1(&gpu, &options)?.dyn_into()?;
    let info = get(&wasm_bindgen_futures::JsFuture::from(adapter).await?, "info")?;
    let word = |name| get(&info, name).ok().and_then(|word| word.as_string()).filter(|word| !word.is_empty());
    Ok([word("vendor"), word("architecture")].into_iter().flatten().collect::<Vec<String>>().join(" "))
}
