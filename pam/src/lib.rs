//! The binding to libpam (pam(3)), by hand: the few functions that a session needs. `nunbird-session` alone links it, with
//! root's rights; docs/adr/0010 says why it is not in `sys/`.
//!
//! Modules are foreign code. What they say comes to one function of the caller; what they ask is never answered: a job has
//! nobody at a terminal. A [`Handle`] calls nothing by itself when it goes but pam_end(3): sessions are closed by name, because
//! closing can fail and hang.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conversation;
mod raw;

use conversation::Listener;
pub use conversation::{Heard, Tone};
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What libpam said no with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The function, as its manual page is called.
    pub function: &'static str,
    /// The number (`_pam_types.h`).
    pub code: i32,
    /// Its words.
    pub text: String,
}

impl Error {
    /// Whether the modules have judged the account and refuse it, rather than failed: the values that pam_acct_mgmt(3) gives
    /// for that.
    pub fn is_denial(&self) -> bool {
        matches!(
            self.code,
            raw::PAM_PERM_DENIED
                | raw::PAM_AUTH_ERR
                | raw::PAM_USER_UNKNOWN
                | raw::PAM_ACCT_EXPIRED
                | raw::PAM_NEW_AUTHTOK_REQD
                | raw::PAM_MAXTRIES
        )
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.function, self.text, self.code)
    }
}

impl std::error::Error for Error {}

/// Items that say where a user comes from (pam_set_item(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The user who asks.
    RemoteUser,
    /// Their host.
    RemoteHost,
    /// The terminal.
    Terminal,
}

/// One transaction with PAM.
#[derive(Debug)]
pub struct Handle {
    raw: NonNull<raw::pam_handle>,
    /// libpam keeps a pointer to it, so it neither moves nor goes before `raw`.
    listener: NonNull<Listener>,
    last: c_int,
    /// libpam is not to be called from two threads.
    _alone: PhantomData<*mut ()>,
}

impl Handle {
    /// pam_start(3). `hear` gets what modules say.
    ///
    /// # Errors
    /// As pam_start(3).
    pub fn start(service: &CStr, user: &CStr, hear: impl FnMut(Heard) + 'static) -> Result<Self, Error> {
        let listener = Box::leak(Box::new(Listener::new(Box::new(hear))));
        let listener = NonNull::from(listener);
        let conversation =
            raw::pam_conv { conv: Some(conversation::converse), appdata_ptr: listener.as_ptr().cast() };
        let mut raw = std::ptr::null_mut();
        // SAFETY: both texts end with NUL and live through the call, which copies them and `conversation`. The listener behind
        // `appdata_ptr` is freed after pam_end alone, and `converse` takes it for what it is.
        let code =
            unsafe { raw::pam_start(service.as_ptr(), user.as_ptr(), &raw const conversation, &raw mut raw) };
        match NonNull::new(raw).filter(|_| code == raw::PAM_SUCCESS) {
            Some(raw) => Ok(Handle { raw, listener, last: code, _alone: PhantomData }),
            None => {
                // SAFETY: it came from Box::leak above, and without a transaction nobody keeps a pointer to it.
                drop(unsafe { Box::from_raw(listener.as_ptr()) });
                Err(Error { function: "pam_start", code, text: "no transaction with PAM".to_owned() })
            }
        }
    }

    /// pam_set_item(3).
    ///
    /// # Errors
    /// As pam_set_item(3).
    pub fn set(&mut self, item: Item, value: &CStr) -> Result<(), Error> {
        let number = match item {
            Item::RemoteUser => raw::PAM_RUSER,
            Item::RemoteHost => raw::PAM_RHOST,
            Item::Terminal => raw::PAM_TTY,
        };
        // SAFETY: the transaction is open; each of the three items is a text, which libpam copies.
        let code = unsafe { raw::pam_set_item(self.raw.as_ptr(), number, value.as_ptr().cast()) };
        self.answer("pam_set_item", code)
    }

    /// The user as the modules have it now (`PAM_USER`, pam_get_item(3)).
    ///
    /// # Errors
    /// As pam_get_item(3); also when there is none.
    pub fn user(&mut self) -> Result<CString, Error> {
        let mut item = std::ptr::null();
        // SAFETY: the transaction is open, and `item` is a live place for a pointer.
        let code = unsafe { raw::pam_get_item(self.raw.as_ptr(), raw::PAM_USER, &raw mut item) };
        self.answer("pam_get_item", code)?;
        if item.is_null() {
            return self.answer("pam_get_item", raw::PAM_USER_UNKNOWN).map(|()| CString::default());
        }
        // SAFETY: PAM_USER is a text that ends with NUL and stays until a module changes it; it is copied here, before any
        // module is called again.
        Ok(unsafe { CStr::from_ptr(item.cast()) }.to_owned())
    }

    /// pam_acct_mgmt(3).
    ///
    /// # Errors
    /// As pam_acct_mgmt(3); see [`Error::is_denial`].
    pub fn account(&mut self) -> Result<(), Error> {
        // SAFETY: the transaction is open.
        let code = unsafe { raw::pam_acct_mgmt(self.raw.as_ptr(), 0) };
        self.answer("pam_acct_mgmt", code)
    }

    /// pam_setcred(3) with `PAM_ESTABLISH_CRED`.
    ///
    /// # Errors
    /// As pam_setcred(3).
    pub fn establish_credentials(&mut self) -> Result<(), Error> {
        // SAFETY: the transaction is open.
        let code = unsafe { raw::pam_setcred(self.raw.as_ptr(), raw::PAM_ESTABLISH_CRED) };
        self.answer("pam_setcred", code)
    }

    /// pam_setcred(3) with `PAM_DELETE_CRED`.
    ///
    /// # Errors
    /// As pam_setcred(3).
    pub fn delete_credentials(&mut self) -> Result<(), Error> {
        // SAFETY: the transaction is open.
        let code = unsafe { raw::pam_setcred(self.raw.as_ptr(), raw::PAM_DELETE_CRED) };
        self.answer("pam_setcred", code)
    }

    /// pam_open_session(3).
    ///
    /// # Errors
    /// As pam_open_session(3).
    pub fn open_session(&mut self) -> Result<(), Error> {
        // SAFETY: the transaction is open.
        let code = unsafe { raw::pam_open_session(self.raw.as_ptr(), 0) };
        self.answer("pam_open_session", code)
    }

    /// pam_close_session(3).
    ///
    /// # Errors
    /// As pam_close_session(3).
    pub fn close_session(&mut self) -> Result<(), Error> {
        // SAFETY: the transaction is open.
        let code = unsafe { raw::pam_close_session(self.raw.as_ptr(), 0) };
        self.answer("pam_close_session", code)
    }

    /// The environment that modules have made, `NAME=value` each (pam_getenvlist(3)).
    pub fn environment(&mut self) -> Vec<CString> {
        let mut all = Vec::new();
        // SAFETY: the transaction is open.
        let list = unsafe { raw::pam_getenvlist(self.raw.as_ptr()) };
        if list.is_null() {
            return all;
        }
        let mut at = list;
        // SAFETY: pam_getenvlist gives an array of pointers that ends with a null pointer, each to a text that ends with NUL.
        // Array and texts are malloc's and this function's to free (pam_getenvlist(3)); each is freed once, after it is copied.
        unsafe {
            while !(*at).is_null() {
                all.push(CStr::from_ptr(*at).to_owned());
                libc::free((*at).cast());
                at = at.add(1);
            }
            libc::free(list.cast());
        }
        all
    }

    fn answer(&mut self, function: &'static str, code: c_int) -> Result<(), Error> {
        self.last = code;
        if code == raw::PAM_SUCCESS {
            return Ok(());
        }
        // SAFETY: the transaction is open; the answer is null or a text of libpam's that ends with NUL.
        let text = unsafe {
            let text = raw::pam_strerror(self.raw.as_ptr(), code);
            if text.is_null() { c"unknown error" } else { CStr::from_ptr(text) }
        };
        Err(Error { function, code, text: text.to_string_lossy().into_owned() })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the transaction is open and not used after this. Then libpam has no pointer to the listener any more, which
        // came from Box::leak and is freed once.
        unsafe {
            raw::pam_end(self.raw.as_ptr(), self.last);
            drop(Box::from_raw(self.listener.as_ptr()));
        }
    }
}
