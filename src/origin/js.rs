//! The border to JavaScript: the global object of a page or a worker, and exceptions as text.

use crate::error::{Error, Result};
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// `fetch` of a page and of a worker alike.
    #[wasm_bindgen(js_name = fetch, catch)]
    pub fn fetch(url: &str, init: &web_sys::RequestInit) -> Result<Promise, JsValue>;

    /// Milliseconds on a clock that only goes forward.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    pub fn now() -> f64;

    #[wasm_bindgen(js_name = setTimeout, catch)]
    pub fn set_timeout(callback: &JsValue, milliseconds: f64) -> Result<JsValue, JsValue>;
}

/// A property of an object; `None` where it, or the object, is missing.
pub fn get(of: &JsValue, name: &str) -> Option<JsValue> {
    let value = Reflect::get(of, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

/// What hangs at the global object below these names; `None` where one of them is missing.
pub fn global(names: &[&str]) -> Option<JsValue> {
    names.iter().try_fold(js_sys::global().into(), |of: JsValue, name| get(&of, name))
}

/// An object with these members, as options are handed over.
pub fn options(members: &[(&str, &JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in members {
        // Cannot fail: the object is a fresh and ordinary one.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object
}

/// The name of an exception, as `NotFoundError`; empty where it has none.
pub fn name(thrown: &JsValue) -> String {
    get(thrown, "name").and_then(|name| name.as_string()).unwrap_or_default()
}

/// An exception in words.
pub fn text(thrown: &JsValue) -> String {
    let message = get(thrown, "message").and_then(|message| message.as_string()).unwrap_or_default();
    match (name(thrown), message) {
        (name, message) if name.is_empty() && message.is_empty() => {
            thrown.as_string().unwrap_or_else(|| format!("{thrown:?}"))
        }
        (name, message) if message.is_empty() => name,
        (name, message) if name.is_empty() => message,
        (name, message) => format!("{name}: {message}"),
    }
}

/// An exception that nobody can mend.
pub fn internal(doing: &str) -> impl Fn(JsValue) -> Error {
    move |thrown| Error::Internal(format!("{doing}: {}", text(&thrown)))
}
