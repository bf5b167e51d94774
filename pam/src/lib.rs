//! The binding to libpam (pam(3)), written by hand: the few functions that a session needs. Only
//! `nunbird-session` links it, as root; docs/adr/0010 explains why it is not in `sys/`.
//!
//! Modules are foreign code. Their messages are passed to one function of the caller; their prompts
//! are never answered, because a job has no terminal. Dropping a [`Handle`] calls only pam_end(3):
//! sessions are closed explicitly, because closing can fail and hang.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conversation;
mod raw;

use conversation::Listener;
pub use conversation::{Heard, Tone};
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// An error of libpam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The function, by the name of its manual page.
    pub function: &'static str,
    /// The error number (`_pam_types.h`).
    pub code: i32,
    /// The error text.
    pub text: String,
}

impl Error {
    /// Whether the modules have judged the account and refuse it, rather than failed: the values
    /// that pam_acct_mgmt(3) returns in that case.
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

/// Items that describe where a user comes from (pam_set_item(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The requesting user.
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
    /// libpam keeps a pointer to it, so it is neither moved nor dropped before `raw`.
    listener: NonNull<Listener>,
    last: c_int,
    /// libpam must not be called from two threads.
    _alone: PhantomData<*mut ()>,
}

impl Handle {
    /// pam_start(3). `hear` gets the messages of modules.
    ///
    /// # Errors
    /// As pam_start(3).
    pub fn start(service: &CStr, user: &CStr, hear: impl FnMut(Heard) + 'static) -> Result<Self, Error> {
        let listener = Box::leak(Box::new(Listener::new(Box::new(hear))));
        let listener = NonNull::from(listener);
        let conversation =
            raw::pam_conv { conv: Some(conversation::converse), appdata_ptr: listener.as_ptr().cast() };
        let mut raw = std::ptr::null_mut();
        // SAFETY: both texts end with NUL and live through the call, which copies them and
        // `conversation`. The listener behind `appdata_ptr` is freed only after pam_end, and
        // `converse` uses it with its real type.
        let code =
            unsafe { raw::pam_start(service.as_ptr(), user.as_ptr(), &raw const conversation, &raw mut raw) };
        match NonNull::new(raw).filter(|_| code == raw::PAM_SUCCESS) {
            Some(raw) => Ok(Handle { raw, listener, last: code, _alone: PhantomData }),
            None => {
                // SAFETY: it came from Box::leak above, and without a transaction nothing keeps a
                // pointer to it.
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

    /// The user as the modules see it now (`PAM_USER`, pam_get_item(3)).
    ///
    /// # Errors
    /// As pam_get_item(3); also if there is none.
    pub fn user(&mut self) -> Result<CString, Error> {
        let mut item = std::ptr::null();
        // SAFETY: the transaction is open, and `item` is a live location for a pointer.
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

    /// The environment that modules have set, `NAME=value` each (pam_getenvlist(3)).
    pub fn environment(&mut self) -> Vec<CString> {
        let mut all = Vec::new();
        // SAFETY: the transaction is open.
        let list = unsafe { raw::pam_getenvlist(self.raw.as_ptr()) };
        if list.is_null() {
            return all;
        }
        let mut at = list;
        // SAFETY: pam_getenvlist returns an array of pointers that ends with a null pointer, each
        // to a text that ends with NUL. Array and texts are allocated with malloc, and this
        // function must free them (pam_getenvlist(3)); each is freed once, after it is copied.
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
        // SAFETY: the transaction is open and not used after this. Then libpam has no pointer to
        // the listener any more, which came from Box::leak and is freed once.
        unsafe {
            raw::pam_end(self.raw.as_ptr(), self.last);
            drop(Box::from_raw(self.listener.as_ptr()));
        }
    }
}
