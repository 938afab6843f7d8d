//! `builtins.knownFailure`, written against the C API of Nix. This takes the place of the function in `cpp/primop.cc` where the
//! process exports the C API.
//!
//! What the C API can't do is in `cpp/c_api/primop.hh`.

mod c_api;

use std::ffi::{CStr, c_char, c_void};

use crate::guard::{Failure, caught};
use c_api::{EvalState, Evaluator, NIX_TYPE_ATTRS, NIX_TYPE_STRING, Value, in_this_process, nix_c_context, nix_value};

#[cxx::bridge(namespace = "negative_cache::c_api")]
mod ffi {
    unsafe extern "C++" {
        include!("c_api/primop.hh");

        #[namespace = ""]
        type EvalState = super::c_api::EvalState;
        #[namespace = ""]
        type nix_c_context = super::c_api::nix_c_context;
        #[namespace = ""]
        type nix_value = super::c_api::nix_value;

        unsafe fn is_pure(state: *mut EvalState) -> Result<bool>;
        unsafe fn known_failure(state: *mut EvalState, paths: &Vec<String>) -> Result<String>;
        unsafe fn force(function: usize, state: *mut EvalState, value: *mut nix_value) -> Result<()>;
        unsafe fn attribute(
            function: usize,
            set: *const nix_value,
            state: *mut EvalState,
            name: *const c_char,
        ) -> Result<*mut nix_value>;
    }

    extern "Rust" {
        /// Adds `builtins.<name>`, a function of one argument. Returns whether the C API could do that.
        unsafe fn register_primop(name: *const c_char, argument: *const c_char, documentation: *const c_char) -> bool;
        /// Finds out what is known of the failure of a derivation. What is wrong with the call becomes the error of `context`.
        unsafe fn known_failure_of(
            context: *mut nix_c_context,
            state: *mut EvalState,
            argument: *mut nix_value,
            result: *mut nix_value,
        ) -> Result<()>;
    }
}

// In cpp/c_api/primop.cc.
unsafe extern "C" {
    /// Calls [`known_failure_of`], and then throws what Nix has thrown meanwhile.
    fn negative_cache_known_failure(
        user_data: *mut c_void,
        context: *mut nix_c_context,
        state: *mut EvalState,
        arguments: *mut *mut nix_value,
        result: *mut nix_value,
    );
}

/// # Safety
///
/// These are texts that stay where they are.
unsafe fn register_primop(name: *const c_char, argument: *const c_char, documentation: *const c_char) -> bool {
    let registered = caught(|| {
        let Some(api) = in_this_process() else { return Ok(false) };
        // SAFETY: the caller's.
        unsafe { api.register(negative_cache_known_failure, name, argument, documentation) }
    });
    registered.unwrap_or(false)
}

/// Why there is no answer.
enum NoAnswer {
    /// The call is wrong in this way.
    Call(String),
    /// Something else went wrong.
    Failure(Failure),
}

impl<F: Into<Failure>> From<F> for NoAnswer {
    fn from(failure: F) -> NoAnswer {
        NoAnswer::Failure(failure.into())
    }
}

/// # Safety
///
/// Nix calls the function with these arguments, in the thread of the evaluator.
unsafe fn known_failure_of(
    context: *mut nix_c_context,
    state: *mut EvalState,
    argument: *mut nix_value,
    result: *mut nix_value,
) -> Result<(), Failure> {
    caught(|| {
        let Some(api) = in_this_process() else { return Ok(()) };
        // SAFETY: the caller's.
        let evaluator = unsafe { Evaluator::new(api, state) }?;
        // SAFETY: the caller's.
        let (argument, result) = unsafe { (evaluator.lent(argument), evaluator.lent(result)) };
        let answered = answer(&evaluator, &argument).and_then(|failure| Ok(result.set(&failure)?));
        match answered {
            Ok(()) => Ok(()),
            Err(NoAnswer::Call(what)) => {
                // SAFETY: the caller's.
                unsafe { api.fail(context, &what) };
                Ok(())
            }
            Err(NoAnswer::Failure(failure)) => {
                // Nix demands a result. If it has to throw an error, it does not look at it.
                let _ = result.set(&serde_json::Value::Null);
                Err(failure)
            }
        }
    })
}

/// What is known of the failure of `argument`; null if nothing is.
fn answer(evaluator: &Evaluator<'_>, argument: &Value<'_>) -> Result<serde_json::Value, NoAnswer> {
    if evaluator.is_pure()? {
        return Err(NoAnswer::Call(
            "'builtins.knownFailure' is not allowed in pure evaluation mode (use '--impure' to override)".to_owned(),
        ));
    }
    let failure = evaluator.known_failure(&paths_of(argument)?)?;
    // It is empty if nothing is known.
    Ok(serde_json::from_str(&failure).unwrap_or_default())
}

/// The paths by which a failure of the argument can be found: the path of its derivation, and the path of its output as far as that
/// is known without the store.
fn paths_of(argument: &Value<'_>) -> Result<Vec<String>, NoAnswer> {
    argument.force()?;
    if argument.kind()? != NIX_TYPE_ATTRS {
        return Ok(vec![text_of(argument, "the path of a derivation given to 'builtins.knownFailure'")?]);
    }
    if !is_derivation(argument)? {
        return Err(NoAnswer::Call("the set given to 'builtins.knownFailure' is not a derivation".to_owned()));
    }
    let mut paths = Vec::new();
    for name in [c"drvPath", c"outPath"] {
        if let Some(path) = argument.attribute(name)? {
            paths.push(text_of(&path, "a path of the derivation given to 'builtins.knownFailure'")?);
        }
    }
    Ok(paths)
}

/// Whether a set is a derivation (`EvalState::isDerivation`).
fn is_derivation(set: &Value<'_>) -> Result<bool, Failure> {
    const TYPE: &CStr = c"type";
    match set.attribute(TYPE)? {
        Some(kind) if kind.kind()? == NIX_TYPE_STRING => Ok(kind.text()? == "derivation"),
        _ => Ok(false),
    }
}

/// The text of a string. `what` says what the string is, for the error if the value is none.
fn text_of(value: &Value<'_>, what: &str) -> Result<String, NoAnswer> {
    if value.kind()? != NIX_TYPE_STRING {
        let found = value.kind_in_words()?;
        return Err(NoAnswer::Call(format!("expected a string but found {found} while evaluating {what}")));
    }
    Ok(value.text()?)
}
