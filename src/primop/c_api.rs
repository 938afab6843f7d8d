//! The C API of Nix, as far as a function of one argument needs it.
//!
//! The plugin links none of it: the functions are looked up in the process, all or none.

use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use libloading::os::unix::Library;
use serde_json::Value as Json;

use super::ffi;
use crate::guard::Failure;

pub use bindings::{CApi, EvalState, NIX_TYPE_ATTRS, NIX_TYPE_STRING, ValueType, nix_c_context, nix_value};
use bindings::{NIX_ERR_UNKNOWN, NIX_OK};

/// What bindgen makes of Nix's headers (build.rs).
#[allow(dead_code, non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::all)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/c_api.rs"));
}

// SAFETY: the bridge only passes pointers to these, which are C's types of the same names.
unsafe impl cxx::ExternType for EvalState {
    type Id = cxx::type_id!("EvalState");
    type Kind = cxx::kind::Opaque;
}

// SAFETY: as above.
unsafe impl cxx::ExternType for nix_c_context {
    type Id = cxx::type_id!("nix_c_context");
    type Kind = cxx::kind::Opaque;
}

// SAFETY: as above.
unsafe impl cxx::ExternType for nix_value {
    type Id = cxx::type_id!("nix_value");
    type Kind = cxx::kind::Opaque;
}

/// A function that Nix can call (`PrimOpFun`).
type Called =
    unsafe extern "C" fn(*mut c_void, *mut nix_c_context, *mut EvalState, *mut *mut nix_value, *mut nix_value);

/// The C API of this process; none if a function of it is missing.
pub fn in_this_process() -> Option<&'static CApi> {
    static API: OnceLock<Option<CApi>> = OnceLock::new();
    // SAFETY: these are the functions of the headers that the plugin is compiled with, as the plugin makes sure that it is in the
    // Nix of these headers before it starts.
    API.get_or_init(|| unsafe { CApi::from_library(Library::this()) }.ok()).as_ref()
}

impl CApi {
    /// Adds `builtins.<name>`, a function of one argument.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    ///
    /// # Safety
    ///
    /// `called` expects what Nix passes, and these are texts that stay where they are.
    pub unsafe fn register(
        &self,
        called: Called,
        name: *const c_char,
        argument: *const c_char,
        documentation: *const c_char,
    ) -> Result<bool, Failure> {
        let context = Context::new(self)?;
        let mut arguments = [argument, ptr::null()];
        // SAFETY: the texts are the caller's, and the list of arguments ends with a null pointer. Nix takes the content of the
        // function, and a reference is left that must be given back.
        unsafe {
            let function = self.nix_alloc_primop(
                context.pointer,
                Some(called),
                1,
                name,
                arguments.as_mut_ptr(),
                documentation,
                ptr::null_mut(),
            );
            context.check()?;
            self.nix_register_primop(context.pointer, function);
            let registered = context.check();
            self.nix_gc_decref(context.pointer, function.cast());
            registered?;
        }
        Ok(true)
    }

    /// Makes the function that Nix has called fail.
    ///
    /// # Safety
    ///
    /// `context` is what Nix has passed to the function.
    pub unsafe fn fail(&self, context: *mut nix_c_context, why: &str) {
        // SAFETY: the caller's. Nix copies the text.
        unsafe { self.nix_set_err_msg(context, NIX_ERR_UNKNOWN, c_string(why).as_ptr()) };
    }
}

/// A text for C. Nix has no strings with null characters.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Where functions of the C API leave their errors. It is not the one that Nix passes, whose error becomes that of the call.
struct Context<'a> {
    api: &'a CApi,
    pointer: *mut nix_c_context,
}

impl<'a> Context<'a> {
    fn new(api: &'a CApi) -> Result<Context<'a>, Failure> {
        // SAFETY: it needs nothing.
        let pointer = unsafe { api.nix_c_context_create() };
        match pointer.is_null() {
            true => Err(Failure::CApi("out of memory".to_owned())),
            false => Ok(Context { api, pointer }),
        }
    }

    /// Whether the last function that was called with this context has done its work.
    fn check(&self) -> Result<(), Failure> {
        // SAFETY: the context is alive. If there is an error, there is a text that ends with a null character.
        unsafe {
            if self.api.nix_err_code(self.pointer) == NIX_OK {
                return Ok(());
            }
            let text = self.api.nix_err_msg(ptr::null_mut(), self.pointer, ptr::null_mut());
            Err(Failure::CApi(CStr::from_ptr(text).to_string_lossy().into_owned()))
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { self.api.nix_c_context_free(self.pointer) };
    }
}

/// An evaluator that has called the function.
pub struct Evaluator<'a> {
    context: Context<'a>,
    state: *mut EvalState,
}

impl<'a> Evaluator<'a> {
    /// # Errors
    ///
    /// Those of Nix.
    ///
    /// # Safety
    ///
    /// `state` is what Nix has passed to the function, which has not returned.
    pub unsafe fn new(api: &'a CApi, state: *mut EvalState) -> Result<Evaluator<'a>, Failure> {
        Ok(Evaluator { context: Context::new(api)?, state })
    }

    /// A value that somebody else keeps.
    ///
    /// # Safety
    ///
    /// It lives for as long as this evaluator.
    pub unsafe fn lent(&self, pointer: *mut nix_value) -> Value<'_> {
        Value { evaluator: self, pointer, is_counted: false }
    }

    /// Whether it is in pure evaluation mode.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    pub fn is_pure(&self) -> Result<bool, cxx::Exception> {
        // SAFETY: the evaluator is alive.
        unsafe { ffi::is_pure(self.state) }
    }

    /// What is known of the failure of the derivation that these paths belong to, as JSON; empty if nothing is.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    pub fn known_failure(&self, paths: &Vec<String>) -> Result<String, cxx::Exception> {
        // SAFETY: the evaluator is alive.
        unsafe { ffi::known_failure(self.state, paths) }
    }

    fn new_value(&self) -> Result<Value<'_>, Failure> {
        // SAFETY: the evaluator is alive.
        let pointer = unsafe { self.api().nix_alloc_value(self.context.pointer, self.state) };
        self.context.check()?;
        Ok(Value { evaluator: self, pointer, is_counted: true })
    }

    fn api(&self) -> &'a CApi {
        self.context.api
    }
}

/// A value of the language.
pub struct Value<'a> {
    evaluator: &'a Evaluator<'a>,
    pointer: *mut nix_value,
    /// Whether the garbage collector keeps the value because of this.
    is_counted: bool,
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            // SAFETY: the reference is this one's.
            unsafe { self.api().nix_value_decref(self.context(), self.pointer) };
        }
    }
}

// SAFETY, for all that follows: a value lives for as long as its evaluator, and the functions that expect some type of value are
// only called with one. Nix ends the process otherwise.
impl<'a> Value<'a> {
    fn api(&self) -> &'a CApi {
        self.evaluator.api()
    }

    fn context(&self) -> *mut nix_c_context {
        self.evaluator.context.pointer
    }

    fn check(&self) -> Result<(), Failure> {
        self.evaluator.context.check()
    }

    /// Evaluates it, if that has not happened yet.
    ///
    /// # Errors
    ///
    /// What Nix throws.
    pub fn force(&self) -> Result<(), cxx::Exception> {
        // SAFETY: see above.
        unsafe { ffi::force(self.api().nix_value_force as usize, self.evaluator.state, self.pointer) }
    }

    /// The type of an evaluated value.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    pub fn kind(&self) -> Result<ValueType, Failure> {
        // SAFETY: see above.
        let kind = unsafe { self.api().nix_get_type(self.context(), self.pointer) };
        self.check().map(|()| kind)
    }

    /// The same as Nix calls it: "an integer".
    ///
    /// # Errors
    ///
    /// Those of Nix.
    pub fn kind_in_words(&self) -> Result<String, Failure> {
        // SAFETY: see above. The text is a copy to be freed, if there is no error.
        unsafe {
            let text = self.api().nix_get_typename(self.context(), self.pointer);
            self.check()?;
            let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
            libc::free(text.cast_mut().cast());
            Ok(owned)
        }
    }

    /// The text of a string, without its context.
    ///
    /// # Errors
    ///
    /// If this is no string, and those of Nix.
    pub fn text(&self) -> Result<String, Failure> {
        /// Adds a text to a `Vec<u8>`.
        unsafe extern "C" fn add(start: *const c_char, length: c_uint, text: *mut c_void) {
            // SAFETY: Nix calls this with a text and with what it was given below.
            unsafe {
                let text = &mut *text.cast::<Vec<u8>>();
                text.extend(slice::from_raw_parts(start.cast::<u8>(), length as usize));
            }
        }
        if self.kind()? != NIX_TYPE_STRING {
            return Err(Failure::CApi("not a string".to_owned()));
        }
        let mut text: Vec<u8> = Vec::new();
        // SAFETY: see above.
        unsafe { self.api().nix_get_string(self.context(), self.pointer, Some(add), (&raw mut text).cast()) };
        self.check()?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// An attribute of a set, evaluated; none if there is no such attribute.
    ///
    /// # Errors
    ///
    /// What Nix throws.
    pub fn attribute(&self, name: &CStr) -> Result<Option<Value<'a>>, Failure> {
        if self.kind()? != NIX_TYPE_ATTRS {
            return Ok(None);
        }
        let (api, state) = (self.api(), self.evaluator.state);
        // SAFETY: see above.
        let is_there = unsafe { api.nix_has_attr_byname(self.context(), self.pointer, state, name.as_ptr()) };
        self.check()?;
        if !is_there {
            return Ok(None);
        }
        let function = api.nix_get_attr_byname as usize;
        // SAFETY: see above.
        let pointer = unsafe { ffi::attribute(function, self.pointer, state, name.as_ptr()) }?;
        Ok(Some(Value { evaluator: self.evaluator, pointer, is_counted: true }))
    }

    /// Gives a new value its content.
    ///
    /// # Errors
    ///
    /// If it has one already, and those of Nix.
    pub fn set(&self, json: &Json) -> Result<(), Failure> {
        let (api, context, value) = (self.api(), self.context(), self.pointer);
        // SAFETY: see above. Nix copies texts.
        unsafe {
            match json {
                Json::Null => api.nix_init_null(context, value),
                Json::Bool(truth) => api.nix_init_bool(context, value, *truth),
                Json::Number(number) => match number.as_i64() {
                    Some(number) => api.nix_init_int(context, value, number),
                    None => api.nix_init_float(context, value, number.as_f64().unwrap_or_default()),
                },
                Json::String(text) => api.nix_init_string(context, value, c_string(text).as_ptr()),
                Json::Array(_) => return Err(Failure::CApi("a list".to_owned())),
                Json::Object(attributes) => return self.set_attributes(attributes),
            };
        }
        self.check()
    }

    fn set_attributes(&self, attributes: &serde_json::Map<String, Json>) -> Result<(), Failure> {
        let (api, context) = (self.api(), self.context());
        // SAFETY: see above.
        let builder = unsafe { api.nix_make_bindings_builder(context, self.evaluator.state, attributes.len()) };
        self.check()?;
        let built = attributes.iter().try_for_each(|(name, json)| {
            let attribute = self.evaluator.new_value()?;
            attribute.set(json)?;
            // SAFETY: see above. The builder has room for all attributes, and refers to their values from now on.
            unsafe { api.nix_bindings_builder_insert(context, builder, c_string(name).as_ptr(), attribute.pointer) };
            self.check()
        });
        let made = built.and_then(|()| {
            // SAFETY: see above. It has all attributes.
            unsafe { api.nix_make_attrs(context, self.pointer, builder) };
            self.check()
        });
        // SAFETY: nobody else has it.
        unsafe { api.nix_bindings_builder_free(builder) };
        made
    }
}
