//! An image's `/etc/passwd` and `/etc/group`: looking users up, adding one.

use super::injected_user::{HOME, InjectedUser};

/// Resolves a container's user (`name`, `uid`, `name:group`, `uid:gid`; empty for root) to uid and gid, as engines do.
/// None when the name is not listed.
pub(crate) fn resolve(user: &str, passwd: &str) -> Option<(u32, u32)> {
    let (user, group) = user
        .split_once(':')
        .map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let line = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 3 && (fields[0] == user || fields[2] == user));
    let uid = match user.parse() {
        Ok(uid) => uid,
        Err(_) => line.as_ref()?[2].parse().ok()?,
    };
    let own_group = || {
        line.as_ref()
            .and_then(|fields| fields[3].parse().ok())
            .unwrap_or(0)
    };
    // A group name is not looked up, because only the file's owner matters.
    let gid = group
        .and_then(|group| group.parse().ok())
        .unwrap_or_else(own_group);
    Some((uid, gid))
}

/// Whether a container's user is root.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

/// `/etc/passwd` with a line for the injected user; None when the uid is already listed.
pub(crate) fn with_user(passwd: &str, injected_user: &InjectedUser) -> Option<String> {
    let InjectedUser { name, uid, gid } = injected_user;
    has_id(passwd, *uid).not_then(|| {
        let name = free_name(passwd, name);
        append(passwd, &format!("{name}:x:{uid}:{gid}::{HOME}:/bin/sh"))
    })
}

/// `/etc/group` with a line for the injected user's group; None when the gid is already listed.
pub(crate) fn with_group(group: &str, injected_user: &InjectedUser) -> Option<String> {
    has_id(group, injected_user.gid).not_then(|| {
        let name = free_name(group, &injected_user.name);
        append(group, &format!("{name}:x:{}:", injected_user.gid))
    })
}

/// Whether an id is listed; both files have it in the third field.
fn has_id(list: &str, id: u32) -> bool {
    let id = id.to_string();
    list.lines()
        .any(|line| line.split(':').nth(2) == Some(id.as_str()))
}

/// The name, or `jq` when the image uses it for another user.
fn free_name(list: &str, name: &str) -> String {
    let taken = list.lines().any(|line| line.split(':').next() == Some(name));
    if taken { "jq".into() } else { name.into() }
}

fn append(list: &str, line: &str) -> String {
    let newline = if list.is_empty() || list.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{list}{newline}{line}\n")
}

trait NotThen {
    fn not_then<T>(self, make: impl FnOnce() -> T) -> Option<T>;
}

impl NotThen for bool {
    fn not_then<T>(self, make: impl FnOnce() -> T) -> Option<T> {
        (!self).then(make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "root:x:0:0:root:/root:/bin/bash\njovyan:x:1000:100::/home/jovyan:/bin/bash";

    #[test]
    fn users_are_resolved_as_the_engine_does() {
        for (user, expected) in [
            ("", Some((0, 0))),
            ("root", Some((0, 0))),
            ("jovyan", Some((1000, 100))),
            ("1000", Some((1000, 100))),
            ("1000:5", Some((1000, 5))),
            ("77", Some((77, 0))),
            ("77:88", Some((77, 88))),
            ("nobody-here", None),
        ] {
            assert_eq!(resolve(user, LIST), expected, "{user}");
        }
        assert_eq!(resolve("", ""), Some((0, 0)));
    }

    #[test]
    fn an_injected_user_is_added_once_and_under_a_free_name() {
        let injected_user = |name: &str, uid| InjectedUser {
            name: name.into(),
            uid,
            gid: 1235,
        };
        let list = with_user(LIST, &injected_user("ada", 1234)).unwrap();
        assert!(
            list.ends_with("/bin/bash\nada:x:1234:1235::/home/jq:/bin/sh\n"),
            "{list}"
        );
        assert_eq!(with_user(&list, &injected_user("ada", 1234)), None);
        assert_eq!(with_user(LIST, &injected_user("ada", 1000)), None);
        assert!(
            with_user(LIST, &injected_user("jovyan", 7))
                .unwrap()
                .contains("\njq:x:7:")
        );
        assert_eq!(with_group("", &injected_user("ada", 1)).unwrap(), "ada:x:1235:\n");
    }
}
