//! Locks between the tabs of the page: who has the conversations open, who downloads a model.

use super::js;
use crate::error::{Error, Result};
use js_sys::{Array, Function, Promise, Reflect};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// A lock that this tab has. It is given back when this is dropped, and by the browser when the page goes.
#[derive(Debug)]
pub struct Lock {
    release: Function,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A promise's own function throws nothing.
        let _ = self.release.call0(&JsValue::UNDEFINED);
    }
}

/// Takes the lock of that name if no other tab has it; `None` = another one does.
///
/// # Errors
/// [`Error::Setting`] where the browser has no locks, or refuses them to the page: then nothing is known of other tabs.
pub async fn take(name: &str) -> Result<Option<Lock>> {
    let refused = |why: &str| {
        Error::Setting(format!(
            "the browser does not say whether this page is open in another tab ({why}): open it through https or from \
             localhost, and in one tab only"
        ))
    };
    let locks = js::global(&["navigator", "locks"]).ok_or_else(|| refused("no Web Locks here"))?;
    let request: Function = js::get(&locks, "request")
        .and_then(|request| request.dyn_into().ok())
        .ok_or_else(|| refused("no Web Locks here"))?;

    let release: Rc<RefCell<Option<Function>>> = Rc::default();
    let released = release.clone();
    let (known, settle) = {
        let mut settle = None;
        (Promise::new(&mut |resolve, _| settle = Some(resolve)), settle)
    };
    let granted = Closure::once_into_js(move |lock: JsValue| -> JsValue {
        // The lock lasts as long as this promise is open.
        let lasting = match lock.is_null() {
            true => JsValue::UNDEFINED,
            false => Promise::new(&mut |resolve, _| *released.borrow_mut() = Some(resolve)).into(),
        };
        if let Some(settle) = settle {
            let _ = settle.call0(&JsValue::UNDEFINED);
        }
        lasting
    });
    let options = js::options(&[("ifAvailable", &JsValue::TRUE)]);
    let lasting = Reflect::apply(&request, &locks, &Array::of3(&name.into(), &options, &granted))
        .map_err(|thrown| refused(&js::text(&thrown)))?;
    // A refused request calls nothing, but is rejected; a granted one stays open.
    Promise::race(&Array::of2(&known, &lasting)).await.map_err(|thrown| refused(&js::text(&thrown)))?;
    let release = release.borrow_mut().take();
    Ok(release.map(|release| Lock { release }))
}
