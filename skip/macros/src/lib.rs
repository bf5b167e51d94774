//! What a test needs, said by an attribute. The guards are in `nunbird_skip` and `nunbird_tests`, which export it.
//!
//! It puts tokens around the body and looks at none of them, so it needs no parser of Rust.

#![forbid(unsafe_code)]

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a function a test that leaves itself out, by the list of `nunbird_skip`, on a machine without what it needs.
///
/// - `#[needs(root)] fn name()`: `nunbird_skip::require_root`.
/// - `#[needs(host)] fn name()`: `nunbird_tests::require_host`, a machine that can boot a systemd host.
/// - `#[needs(root, in_each = MODES)] fn name(mode: Privilege)`: the body runs for each element of `MODES` in turn. A failure shows the
///   modes that were begun, and ends the test.
#[proc_macro_attribute]
pub fn needs(wanted: TokenStream, function: TokenStream) -> TokenStream {
    expand(wanted, function).unwrap_or_else(|problem| code(&format!("compile_error!({problem:?});")))
}

fn expand(wanted: TokenStream, function: TokenStream) -> Result<TokenStream, &'static str> {
    let (guard, modes) = parse(wanted)?;
    let mut head: Vec<TokenTree> = function.into_iter().collect();
    let body = part(head.pop(), Delimiter::Brace).ok_or("`needs` is for functions")?;
    let parameters = part(head.pop(), Delimiter::Parenthesis).ok_or("a test returns nothing")?;
    let mut guarded = code(&format!("if !{guard} {{ return; }}"));
    match modes {
        None if parameters.stream().is_empty() => guarded.extend(body.stream()),
        Some(modes) if !parameters.stream().is_empty() => {
            guarded.extend(code("fn in_each"));
            guarded.extend([TokenTree::from(parameters), body.clone().into()]);
            guarded.extend(code("for mode in"));
            guarded.extend(modes);
            guarded.extend(code("{ println!(\"in {mode:?}\"); in_each(mode); }"));
        }
        _ => return Err("a test has a parameter where it has `in_each`, and none elsewhere"),
    }
    let mut guarded = Group::new(Delimiter::Brace, guarded);
    guarded.set_span(body.span());
    let mut test = code("#[test]");
    test.extend(head);
    test.extend(code("()"));
    test.extend([TokenTree::from(guarded)]);
    Ok(test)
}

/// The guard to ask, and the modes.
fn parse(wanted: TokenStream) -> Result<(&'static str, Option<TokenStream>), &'static str> {
    let mut wanted = wanted.into_iter();
    let guard = match wanted.next().map(|word| word.to_string()).as_deref() {
        Some("root") => "::nunbird_skip::require_root()",
        Some("host") => "::nunbird_tests::require_host()",
        _ => return Err("`needs` begins with `root` or `host`"),
    };
    let words: Vec<String> = wanted.by_ref().take(3).map(|word| word.to_string()).collect();
    match words.join(" ").as_str() {
        "" => Ok((guard, None)),
        ", in_each =" => Ok((guard, Some(wanted.collect()))),
        _ => Err("`needs` has nothing but `in_each = MODES` behind `root` or `host`"),
    }
}

fn part(token: Option<TokenTree>, delimiter: Delimiter) -> Option<Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

/// Tokens of this file's own text.
fn code(text: &str) -> TokenStream {
    text.parse().expect("Rust")
}
