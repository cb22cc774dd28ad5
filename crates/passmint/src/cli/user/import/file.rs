//! The file of `passmint user import`: what other systems write down of their users.
//!
//! Two forms, told apart by themselves: Django's `dumpdata` (a JSON array or one object a line; of other
//! models than users only the names of groups are read), and one JSON object a line or an array of them
//! in this server's own words.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::service::user::ImportedUser;

/// A user of the file, or why there is none; with its place.
pub(super) struct Entry {
    pub(super) place: String,
    /// By what it is called, where that can be read.
    pub(super) name: Option<String>,
    pub(super) user: Result<ImportedUser, String>,
}

/// What becomes of Django's groups and flags.
#[derive(Default)]
pub(super) struct Roles {
    /// Roles of groups that a dump gives by number.
    pub(super) groups: HashMap<i64, String>,
    /// The role of users with `is_staff`.
    pub(super) staff: Option<String>,
    /// The role of users with `is_superuser`.
    pub(super) superuser: Option<String>,
}

/// So many users of a dump have what nothing is made of.
#[derive(Default)]
pub(super) struct LeftBehind {
    pub(super) staff: usize,
    pub(super) superuser: usize,
    pub(super) permissions: usize,
    /// Users without an id.
    pub(super) ids: usize,
    /// Objects of other models than users and groups, by their model.
    pub(super) others: BTreeMap<String, usize>,
}

/// The users of the file, in its order.
pub(super) fn read(text: &str, mut roles: Roles) -> Result<(Vec<Entry>, LeftBehind)> {
    let values = values(text.trim_start_matches('\u{feff}'))?;
    for (_, value) in &values {
        if let Some((number, name)) = value.as_ref().ok().and_then(group) {
            roles.groups.entry(number).or_insert(name);
        }
    }
    let mut left = LeftBehind::default();
    let mut entries = Vec::new();
    for (place, value) in values {
        let name = value.as_ref().ok().and_then(name).map(str::to_owned);
        let user = match value {
            Ok(value) => user(value, &roles, &mut left),
            Err(why) => Some(Err(why)),
        };
        entries.extend(user.map(|user| Entry { place, name, user }));
    }
    if entries.is_empty() {
        bail!("the file holds no users");
    }
    Ok((entries, left))
}

/// Every object of the file with its place.
fn values(text: &str) -> Result<Vec<(String, Result<Value, String>)>> {
    if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text).context("the file is no JSON array")?;
        let numbered = (1..).zip(all);
        return Ok(numbered.map(|(at, value)| (format!("entry {at}"), Ok(value))).collect());
    }
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let value = |(number, line): (u32, &str)| {
        let value = serde_json::from_str(line)
            .map_err(|error| format!("no JSON object: column {}", error.column()));
        (format!("line {number}"), value)
    };
    let values: Vec<_> = lines.map(value).collect();
    if values.iter().all(|(_, value)| value.is_err()) && !values.is_empty() {
        bail!(
            "no line of the file is a JSON object: other forms, as CSV, are not read; write a line like \
             {{\"id\":7,\"username\":\"alice\",\"password_hash\":\"…\"}} for each user, and remove what a \
             program printed before a dump's `[`"
        );
    }
    Ok(values)
}

/// By what a user of either form is called.
fn name(value: &Value) -> Option<&str> {
    let fields = value.get("fields").unwrap_or(value);
    let named = ["username", "email"].iter().find_map(|name| fields.get(name)?.as_str());
    named.filter(|name| name.len() <= 254)
}

/// Number and name of an `auth.group`.
fn group(value: &Value) -> Option<(i64, String)> {
    let model = value.get("model")?.as_str()?;
    let name = value.get("fields")?.get("name")?.as_str()?;
    model
        .eq_ignore_ascii_case("auth.group")
        .then_some((value.get("pk")?.as_i64()?, name.to_owned()))
}

/// One user, in either form; `None` for another model of a Django dump.
fn user(
    value: Value,
    roles: &Roles,
    left: &mut LeftBehind,
) -> Option<Result<ImportedUser, String>> {
    let Value::Object(mut object) = value else {
        return Some(Err("it is no JSON object".to_owned()));
    };
    let is_dump = object.get("model").is_some_and(Value::is_string)
        && object.get("fields").is_some_and(Value::is_object);
    let (true, Some(Value::String(model)), Some(Value::Object(fields))) =
        (is_dump, object.get("model").cloned(), is_dump.then(|| object.remove("fields")).flatten())
    else {
        let wrong = wrong_type(&object);
        let user = serde_json::from_value(Value::Object(object));
        return Some(user.map_err(|error| wrong.unwrap_or_else(|| fault(&error))));
    };
    let model = model.to_lowercase();
    if !is_user(&model, &fields) {
        if model != "auth.group" {
            *left.others.entry(model).or_default() += 1;
        }
        return None;
    }
    let id = object.remove("pk").filter(|id| !id.is_null());
    left.ids += usize::from(id.is_none());
    Some(django(id, fields, roles, left))
}

/// Whether these are the fields of a user: Django's own, or of a model of one's own, which always has
/// `password` and `last_login` (`AbstractBaseUser`).
fn is_user(model: &str, fields: &Map<String, Value>) -> bool {
    let is_called_so = model.ends_with("user");
    model == "auth.user"
        || fields.contains_key("password") && (is_called_so || fields.contains_key("last_login"))
}

/// The first field of a user in this server's own words that is of another type than it should be.
fn wrong_type(object: &Map<String, Value>) -> Option<String> {
    let is_text = |value: &Value| value.is_string();
    object.iter().find_map(|(name, value)| {
        let (is_right, kind) = match name.as_str() {
            "username" | "password_hash" | "email" | "first_name" | "last_name" => {
                (value.is_string(), "no text")
            }
            "created_at" => (value.is_string() || value.is_null(), "no text"),
            "disabled" => (value.is_boolean(), "neither true nor false"),
            "claims" => (value.is_object(), "no object"),
            "roles" => {
                (value.as_array().is_some_and(|all| all.iter().all(is_text)), "no list of texts")
            }
            _ => return None,
        };
        (!is_right).then(|| format!("its {name} is {kind}"))
    })
}

/// The library's words quote values; a hash is none of anybody's business.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let named = text.starts_with("unknown field") || text.starts_with("missing field");
    if named { text } else { "a field is of another type than it should be".to_owned() }
}

/// A user of Django's `auth.user`, or of a model of one's own with the same fields and more.
fn django(
    id: Option<Value>,
    mut fields: Map<String, Value>,
    roles: &Roles,
    left: &mut LeftBehind,
) -> Result<ImportedUser, String> {
    let has_name = fields.contains_key("username");
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("its {name} is no text")),
    };
    // Models that log in by e-mail have no other name.
    let named_by = if has_name { "username" } else { "email" };
    let (username, email) = (text("username")?, text("email")?);
    let username = if has_name { username } else { email.clone() };
    if username.is_empty() {
        return Err(format!("it has no {named_by}, by which it would log in"));
    }
    let (password_hash, joined) = (text("password")?, text("date_joined")?);
    if password_hash.is_empty() {
        return Err(
            "it has no password: Django writes `!` where nobody may log in by one".to_owned()
        );
    }
    let (first_name, last_name) = (text("first_name")?, text("last_name")?);
    let active = flag(&fields, "is_active")?.unwrap_or(true);
    Ok(ImportedUser {
        id,
        username,
        password_hash,
        email,
        first_name,
        last_name,
        roles: roles.of(&fields, left)?,
        claims: Map::new(),
        disabled: !active,
        created_at: (!joined.is_empty()).then_some(joined),
    })
}

/// A flag of a Django user, if the model has it. Anything but true and false is refused: taken for true, an
/// `is_active` of 0 would let a locked-out user in.
fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("its {name} is neither true nor false")),
    }
}

impl Roles {
    /// The roles of a Django user: of its groups, and of its flags where a role is given for them.
    fn of(
        &self,
        fields: &Map<String, Value>,
        left: &mut LeftBehind,
    ) -> Result<Vec<String>, String> {
        let list = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(&[][..]),
            Some(Value::Array(all)) => Ok(all.as_slice()),
            Some(_) => Err(format!("its {name} is no list")),
        };
        let mut roles: Vec<String> =
            list("groups")?.iter().map(|group| self.of_group(group)).collect::<Result<_, _>>()?;
        for (name, role, count) in [
            ("is_staff", &self.staff, &mut left.staff),
            ("is_superuser", &self.superuser, &mut left.superuser),
        ] {
            if flag(fields, name)? != Some(true) {
                continue;
            }
            match role {
                Some(role) if !roles.contains(role) => roles.push(role.clone()),
                Some(_) => {}
                None => *count += 1,
            }
        }
        left.permissions += usize::from(!list("user_permissions")?.is_empty());
        Ok(roles)
    }

    /// By name, as `--natural-foreign` writes it in a list of one, or by a number whose name is known.
    fn of_group(&self, group: &Value) -> Result<String, String> {
        let name = group.as_str().or_else(|| group.get(0)?.as_str());
        if let Some(name) = name {
            return Ok(name.to_owned());
        }
        let Some(number) = group.as_i64() else {
            return Err("its groups are neither names nor numbers".to_owned());
        };
        self.groups.get(&number).cloned().ok_or_else(|| {
            format!(
                "its group {number} has no name in this file: dump auth.group too, or with \
                 --natural-foreign, or say --group {number}=ROLE"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(text: &str, roles: Roles) -> (Vec<Entry>, LeftBehind) {
        read(text, roles).unwrap()
    }

    #[test]
    fn both_forms_are_told_apart() {
        let dump = r#"[
            {"model":"contenttypes.contenttype","pk":1,"fields":{"app_label":"auth"}},
            {"model":"auth.user","pk":7,"fields":{"password":"!x","username":"asha","email":"a@b.c",
             "is_active":false,"date_joined":"2026-11-23T00:11:03.463Z","groups":[["staff"],["ops"]],
             "is_superuser":true,"last_login":null,"user_permissions":[]}}
        ]"#;
        let (read, left) = users(dump, Roles::default());
        assert_eq!(read.len(), 1);
        let user = read[0].user.as_ref().ok().unwrap();
        assert_eq!((read[0].place.as_str(), user.username.as_str()), ("entry 2", "asha"));
        assert_eq!((user.id.clone(), user.disabled), (Some(7.into()), true));
        assert_eq!(user.roles, ["staff", "ops"]);
        assert_eq!((left.staff, left.superuser, left.permissions), (0, 1, 0));

        let lines = "{\"username\":\"asha\",\"id\":\"u-1\"}\n\n{\"usernam\":\"x\"}\nnonsense\n";
        let (read, _) = users(lines, Roles::default());
        assert_eq!(read[0].user.as_ref().ok().unwrap().id, Some("u-1".into()));
        assert_eq!(read[1].place, "line 3");
        assert!(read[1].user.as_ref().err().unwrap().contains("usernam"));
        assert!(read[2].user.is_err());
        assert!(super::read("  ", Roles::default()).is_err());
        for (field, why) in [
            (r#""disabled":"false""#, "its disabled is neither true nor false"),
            (r#""roles":"staff""#, "its roles is no list of texts"),
            (r#""roles":[7]"#, "its roles is no list of texts"),
            (r#""claims":[]"#, "its claims is no object"),
            (r#""email":null"#, "its email is no text"),
            (r#""created_at":7"#, "its created_at is no text"),
        ] {
            let line = format!(r#"{{"username":"asha",{field}}}"#);
            let (read, _) = users(&line, Roles::default());
            assert_eq!(read[0].user.as_ref().err().unwrap(), why);
            assert_eq!(read[0].name.as_deref(), Some("asha"));
        }
        let csv = super::read("id,username\n1,asha\n", Roles::default()).err().unwrap();
        assert!(csv.to_string().contains("CSV"), "{csv}");
    }

    #[test]
    fn no_user_of_a_dump_is_passed_over_without_a_word() {
        let text = r#"
            {"model":"auth.user","pk":1,"fields":{"username":"asha","email":"a@b.c"}}
            {"model":"auth.user","pk":2,"fields":{"username":"","email":"b@b.c","password":"!"}}
            {"model":"accounts.member","pk":3,"fields":{"email":"m@b.c","password":"!","last_login":null}}
            {"model":"accounts.member","pk":4,"fields":{"phone":"1","password":"!","last_login":null}}
            {"model":"auth.user","fields":{"username":"zoe","password":"!"}}
            {"model":"auth.user","pk":null,"fields":{"username":"noor","password":"!"}}
            {"model":"auth.group","pk":1,"fields":{"name":"staff"}}
            {"model":"sessions.Session","pk":"a","fields":{"session_data":"x"}}
            {"model":"wifi.network","pk":"a","fields":{"password":"x"}}"#;
        let (read, left) = users(text, Roles::default());
        let names: Vec<_> = read
            .iter()
            .map(|entry| entry.user.as_ref().map(|user| user.username.as_str()))
            .collect();
        assert!(names[0].unwrap_err().contains("no password"));
        assert!(names[1].unwrap_err().contains("no username"));
        assert_eq!(names[2], Ok("m@b.c"));
        assert!(names[3].unwrap_err().contains("no email"));
        assert_eq!(names[4..], [Ok("zoe"), Ok("noor")]);
        assert_eq!(left.ids, 2);
        let others = [("sessions.session", 1), ("wifi.network", 1)];
        assert_eq!(left.others, others.map(|(model, count)| (model.to_owned(), count)).into());
    }

    #[test]
    fn a_django_field_of_another_type_is_refused_by_its_name() {
        let user = |field: &str| {
            let text = format!(
                r#"{{"model":"auth.user","pk":1,"fields":{{"username":"asha","password":"!",{field}}}}}"#
            );
            users(&text, Roles::default()).0.remove(0).user.map(|user| user.disabled)
        };
        assert_eq!(user(r#""is_active":false"#), Ok(true));
        assert_eq!(user(r#""email":null"#), Ok(false));
        for (field, why) in [
            (r#""is_active":0"#, "its is_active is neither true nor false"),
            (r#""is_active":"false""#, "its is_active is neither true nor false"),
            (r#""is_active":null"#, "its is_active is neither true nor false"),
            (r#""is_staff":1"#, "its is_staff is neither true nor false"),
            (r#""is_superuser":"True""#, "its is_superuser is neither true nor false"),
            (r#""email":5"#, "its email is no text"),
            (r#""first_name":["x"]"#, "its first_name is no text"),
            (r#""groups":"billing""#, "its groups is no list"),
            (r#""user_permissions":7"#, "its user_permissions is no list"),
        ] {
            assert_eq!(user(field), Err(why.to_owned()), "{field}");
        }
    }

    #[test]
    fn a_group_by_number_is_a_role_where_its_name_is_known_and_refused_elsewhere() {
        let user = |pk: u32, groups: &str| {
            format!(
                r#"{{"model":"auth.user","pk":{pk},"fields":{{"password":"!","username":"u{pk}",
                    "is_staff":true,"is_superuser":true,"user_permissions":[1],"groups":{groups}}}}}"#
            )
            .replace('\n', "")
        };
        let group = r#"{"model":"auth.group","pk":4,"fields":{"name":"billing","permissions":[]}}"#;
        let text = [user(1, "[4]"), user(2, "[5]"), user(3, "[6]"), group.to_owned()].join("\n");
        let roles = Roles {
            groups: HashMap::from([(5, "ops".to_owned())]),
            staff: Some("staff".to_owned()),
            superuser: None,
        };
        let (read, left) = users(&text, roles);
        let roles: Vec<_> =
            read.iter().map(|entry| entry.user.as_ref().map(|user| &user.roles)).collect();
        assert_eq!(roles[0].ok().unwrap(), &["billing", "staff"]);
        assert_eq!(roles[1].ok().unwrap(), &["ops", "staff"]);
        assert!(roles[2].err().unwrap().contains("--group 6=ROLE"));
        assert_eq!((left.staff, left.superuser, left.permissions), (0, 2, 2));
    }
}
