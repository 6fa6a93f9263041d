//! The table of who may call what. README.md has the same one, and a test makes every call of it.

use voicelane_identity::Role;

/// What a role may do with a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is answered with PERMISSION_DENIED.
    No,
    /// Call it for what is its own: its `agent_id`, its router id.
    Own,
    /// Call it for every agent and every router.
    All,
}

/// A method, and who may call it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Service and method, as in `Sessions.AddSession`.
    pub name: &'static str,
    /// What a router's certificate lets it do.
    pub router: Access,
    /// What a call agent's certificate lets it do.
    pub agent: Access,
    /// What an operator's certificate, or the Unix socket, lets one do.
    pub operator: Access,
}

/// All methods of `voicelane.v1` that the server has. Of ChangeSessions an operator may call what it may
/// of DeleteSession.
pub const METHODS: [Method; 18] = {
    use Access::{All, No, Own};
    const fn method(name: &'static str, router: Access, agent: Access, operator: Access) -> Method {
        Method {
            name,
            router,
            agent,
            operator,
        }
    }
    [
        method("Sessions.AddSession", No, Own, No),
        method("Sessions.ModifySession", No, Own, No),
        method("Sessions.DeleteSession", No, Own, All),
        method("Sessions.ChangeSessions", No, Own, All),
        method("Sessions.GetSession", No, Own, All),
        method("Sessions.ListSessions", No, Own, All),
        method("Sessions.WatchSessions", No, Own, All),
        method("Sessions.KeepAgent", No, Own, No),
        method("Routers.Attach", Own, No, No),
        method("Operator.ListRouters", No, No, All),
        method("Operator.GetRouter", No, No, All),
        method("Operator.ForgetRouter", No, No, All),
        method("Operator.ListPrefixes", No, No, All),
        method("Operator.ExplainSession", No, Own, All),
        method("Operator.ListLinks", No, No, All),
        method("Operator.GetLink", No, No, All),
        method("Operator.WatchEvents", No, No, All),
        method("Operator.WatchOverview", No, No, All),
    ]
};

/// What a role may do with the method of a path. Health and reflection are for all who are let in; what
/// is of `voicelane.v1` and not in the table, for nobody.
pub(super) fn access(role: Role, path: &str) -> Access {
    let Some(path) = path.strip_prefix("/voicelane.v1.") else {
        return Access::All;
    };
    let found = METHODS.iter().find(|method| {
        let called = path.split_once('/');
        called.is_some() && called == method.name.split_once('.')
    });
    match (found, role) {
        (None, _) | (_, Role::Server) => Access::No,
        (Some(method), Role::Router) => method.router,
        (Some(method), Role::Agent) => method.agent,
        (Some(method), Role::Operator) => method.operator,
    }
}
