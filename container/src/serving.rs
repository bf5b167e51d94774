//! The part of the outer script that starts a job's services, waits for them and watches them.

use crate::description::{Create, Services};
use crate::marks::{MARK, fill, word, words};
use crate::outer::Outer;
use crate::services::{self, label, lost_path, names, variables_directory, variables_path};
use crate::words::{Ids, Network, Values};
use nunbird_stage::template::fill_word;
use nunbird_stage::words::quoted;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

const TEMPLATE: &str = include_str!("services.sh");
/// Bytes of a service's log that are shown in the job log: the log is the job's own too.
const MOST_SHOWN: u32 = 1 << 20;

/// The functions `serve`, `look`, `watch`, `unwatch`, `lost` and `end_services`, which do nothing for a
/// job without services.
pub(crate) fn script(outer: &Outer<'_>) -> String {
    let Some(services) = used(outer) else {
        let nothing = ["serve", "look", "watch", "unwatch", "end_services"];
        let functions = nothing.map(|name| format!("{name}() {{ :; }}\n"));
        return format!("{}lost() {{ return 1; }}\n", functions.concat());
    };
    let container = outer.container;
    let values = values(outer);
    let path = |text: &str| word(&fill_word(text, &values));
    let call = |command: &[String]| outer.call_with(command, &values, &[], " </dev/null");
    let numbers: Vec<String> = (0..container.services.len()).map(|number| number.to_string()).collect();
    let (last, ends) = match container.service_required {
        true => (
            "",
            format!(
                "    printf 'end @NONCE@\\n' >{}\n    \
                 echo \"nunbird: the service $label $how: the job ends, because this site ends jobs whose service has ended\"\n    \
                 stop >/dev/null 2>&1\n",
                lost(outer)
            )
            .replace("@NONCE@", outer.nonce),
        ),
        false => ("", "    echo \"nunbird: the service $label $how\"\n".to_owned()),
    };
    let last = if container.service_logs { last } else { "    last_lines" };
    let parts = [
        ("@NUMBERS@", format!("'{}'", numbers.join(" "))),
        ("@EACH@", each(outer)),
        ("@LOG@", path(&services.log)),
        ("@TEXT@", (services.log_columns + 1).to_string()),
        ("@VALUES@", odd_values(outer, services)),
        ("@CREATE@", creates(outer, services)),
        ("@START@", call(&services.start)),
        ("@CODE@", call(&services.exit_code)),
        ("@END@", call(&services.stop)),
        ("@PROCESS@", path(&services.process)),
        ("@KEEPER@", path(&services.network_process)),
        ("@NONCE@", outer.nonce.to_owned()),
        ("@LOST@", lost(outer)),
        ("@VARIABLES@", of_path(&variables_directory(container))),
        ("@ALONE@", reported_network(outer)),
        ("@TIMEOUT@", container.service_timeout.to_string()),
        ("@CONTAINER@", bare(&format!("[container.{}]", container.name))),
        ("@MOST@", MOST_SHOWN.to_string()),
        ("@SHOW@", if container.service_logs { "    show_log" } else { "    :" }.to_owned()),
        ("@LAST@", last.to_owned()),
        ("@ENDS@", ends),
    ];
    fill(TEMPLATE, &parts)
}

/// Lines that make the hosts file of the job's container and of its services: their names first, then
/// what the host knows.
pub(crate) fn hosts_file(outer: &Outer<'_>) -> String {
    if used(outer).is_none() {
        return String::new();
    }
    let mut text = "  {\n    echo \"127.0.0.1 localhost $name\"\n    echo '::1 localhost'\n".to_owned();
    for service in &outer.container.services {
        let names: Vec<&str> = names(service).collect();
        if !names.is_empty() {
            writeln!(text, "    echo '127.0.0.1 {}'", names.join(" ")).unwrap_or_default();
        }
    }
    text.push_str(
        "    sed '/^[[:space:]]*\\(127\\.\\|::1\\)/d' /etc/hosts 2>/dev/null\n  } >\"$r/hosts\"\n  chmod 644 \"$r/hosts\"\n",
    );
    text
}

/// Lines that make the container: one with services has its own network, and that ends at its
/// loopback where the engine cannot connect it on this host.
pub(crate) fn create(outer: &Outer<'_>, create: &Create) -> String {
    let one = |network: Network| outer.call_on(&create.command, &outer.values(), &[], " </dev/null", network);
    if used(outer).is_none() {
        return one(Network::of(outer.container));
    }
    format!(
        "  rm -f \"$r/alone\"\n{}  made=$?\n  if [ \"$made\" -ne 0 ]; then\n    said >\"$r/reason\"\n    \
         destroy >/dev/null 2>&1 </dev/null\n  {}    made=$?\n    [ \"$made\" -ne 0 ] || mv \"$r/reason\" \"$r/alone\"\n  fi\n  return \"$made\"\n",
        one(Network::Own),
        one(Network::Alone)
    )
}

/// The engine's verbs for services, if the job has any.
fn used<'a>(outer: &Outer<'a>) -> Option<&'a Services> {
    outer.description.services.as_ref().filter(|_| !outer.container.services.is_empty())
}

fn values(outer: &Outer<'_>) -> Values {
    let mut values = outer.values();
    values.insert("service", format!("{MARK}s{MARK}"));
    values.insert("number", format!("{MARK}n{MARK}"));
    values
}

/// Text of ours and of the site's between double quotes of the script.
fn bare(text: &str) -> String {
    text.replace(['"', '$', '`', '\\'], "")
}

fn of_path(path: &Path) -> String {
    quoted(path.as_os_str())
}

fn lost(outer: &Outer<'_>) -> String {
    of_path(&lost_path(outer.container))
}

fn each(outer: &Outer<'_>) -> String {
    let mut text = String::new();
    for (number, service) in outer.container.services.iter().enumerate() {
        let ports = outer.services.get(number).map_or(&[][..], |one| &one.ports);
        let hexadecimal: Vec<String> = ports.iter().map(|port| format!("{port:04X}")).collect();
        let decimal: Vec<String> = ports.iter().map(u16::to_string).collect();
        writeln!(
            text,
            "    {number}) s=$name-s{number} label='{}' ports='{}' listens='port {}' ;;",
            label(service, number),
            hexadecimal.join(" "),
            decimal.join(" or ")
        )
        .unwrap_or_default();
    }
    text
}

/// Lines that give the engine the values that no line of a file can have.
fn odd_values(outer: &Outer<'_>, services: &Services) -> String {
    let Some(make) = &services.value else { return "  :\n".to_owned() };
    let mut text = "  :\n".to_owned();
    for (number, (_, path)) in services::odd_values(outer.container).into_iter().enumerate() {
        let mut values = values(outer);
        values.insert("value", format!("value-{number}"));
        values.insert("file", path.display().to_string());
        text.push_str(&outer.call_with(&make.command, &values, &[], " </dev/null"));
    }
    text
}

fn creates(outer: &Outer<'_>, services: &Services) -> String {
    let mut text = String::new();
    for number in 0..outer.container.services.len().min(outer.services.len()) {
        let set = |ids: Ids| set(outer, services, number, ids);
        let lines = match &outer.description.namespace {
            Some(_) => format!(
                "      if [ \"$ids\" = one ]; then\n{}      else\n{}      fi\n",
                set(Ids::One),
                set(Ids::Many)
            ),
            None => set(Ids::Many),
        };
        write!(text, "    {number})\n{lines}      engine \"$@\" </dev/null\n      ;;\n").unwrap_or_default();
    }
    text
}

/// Lines that make the words of `create` for one service the arguments of the function.
fn set(outer: &Outer<'_>, services: &Services, number: usize, ids: Ids) -> String {
    let (Some(service), Some(known)) = (outer.container.services.get(number), outer.services.get(number))
    else {
        return "      return 1\n".to_owned();
    };
    let mut values = values(outer);
    let saved = known.saved.as_ref().filter(|_| outer.allocation.is_some());
    values.insert("image", saved.map_or(&known.image.for_create, |saved| &saved.name).clone());
    let lists = outer.lists(ids);
    let mut filled: Vec<String> = Vec::new();
    for one in &services.create {
        match one.as_str() {
            "{user}" => {
                if let Some(user) = service.image.user.as_ref().filter(|_| ids == Ids::Many) {
                    filled.extend(own(&services.user, &[("value", user.clone())]));
                }
            }
            "{entrypoint}" => {
                if let Some(entrypoint) = &service.image.entrypoint {
                    let json = serde_json::json!(entrypoint).to_string();
                    filled.extend(own(&services.entrypoint, &[("value", json)]));
                }
            }
            "{variables}" => filled.extend(variables(outer, services, number)),
            "{command}" => {
                let command = service.command.iter().flatten();
                filled.extend(command.map(|word| quoted(OsStr::new(word))));
            }
            _ => filled.push(words(&lists.fill(std::slice::from_ref(one), &values))),
        }
    }
    format!("        set -- {}\n", filled.join(" "))
}

/// What the job has chosen is a word as it stands.
fn own(templates: &[String], more: &[(&'static str, String)]) -> Vec<String> {
    let values: Values = more.iter().cloned().collect();
    templates.iter().map(|word| quoted(OsStr::new(&fill_word(word, &values)))).collect()
}

fn variables(outer: &Outer<'_>, services: &Services, number: usize) -> Vec<String> {
    let Some(service) = outer.container.services.get(number) else { return Vec::new() };
    let path = variables_path(outer.container, number).display().to_string();
    let mut filled = own(&services.variables, &[("value", path)]);
    let Some(make) = &services.value else { return filled };
    let odd = services::odd_values(outer.container);
    for (name, value) in services::variables(service).filter(|(_, value)| services::is_odd(value)) {
        if let Some(at) = odd.iter().position(|(known, _)| *known == value) {
            let more = [("value", format!("value-{at}")), ("name", name.to_owned())];
            filled.extend(own(&make.words, &more));
        }
    }
    filled
}

fn reported_network(outer: &Outer<'_>) -> String {
    let mut text = String::new();
    if outer.container.host_network {
        text.push_str("  echo \"a container with services has its own network, not the one of this host\"\n");
    }
    text.push_str(
        "  if [ -e \"$r/alone\" ]; then\n    \
         printf 'warning: nothing outside of the container is reached from it, because %s cannot connect its network on this host (%s)\\n' \"$title\" \"$(cat \"$r/alone\")\"\n  fi",
    );
    text
}
