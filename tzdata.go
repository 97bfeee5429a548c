package shunt

// Containers often have no time zone database; time_zone works there all the same.
import _ "time/tzdata"
